"""Triton kernels of the search on GPUs."""
