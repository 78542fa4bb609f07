"""Triton kernels of the fused supernet (separable.py, pools.py), and the differentiable functions made of them."""
