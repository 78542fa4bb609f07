"""Differentiable architecture search (DARTS), from the first search step to a trained, tested and drawn cell."""

__version__ = "0.1.0"
