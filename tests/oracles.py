"""What the tests of many layers share: the output and the gradients of anything, for one fixed direction."""

import torch

__all__ = ["cotangent", "values_and_gradients"]


def values_and_gradients(f, *inputs):
    """Output of f and the gradient of every input for one fixed random cotangent."""
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    y = f(*inputs)
    return [y.detach(), *torch.autograd.grad(y, inputs, cotangent(y))]


def cotangent(y):
    """The same random direction for every output of one shape."""
    return torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
