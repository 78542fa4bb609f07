"""Triton kernels of the fused supernet, and the differentiable functions stage_convolutions and stage_pools of them."""
