"""Trained claims of sparse-ift."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.data import Split, load
from course_lib.layers.structured import (
    SparseParallelLinear,
    SparseWideLinear,
    rigl_update_,
)
from course_lib.measure import experiment
from course_lib.training.loop import Run, evaluate, fit


def sparse_layers(model: nn.Module) -> list[nn.Module]:
    """All layers with a mask."""
    return [m for m in model.modules() if hasattr(m, "mask")]


def dense_gradients(model: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
    """Gradients by the masked weights at all places: masks are filled with ones for one backward pass."""
    layers = sparse_layers(model)
    masks = [layer.mask.clone() for layer in layers]
    with torch.no_grad():
        for layer, mask in zip(layers, masks, strict=True):
            layer.dense_weight.mul_(mask)
            layer.mask.fill_(True)
    loss = F.cross_entropy(model(x), y)
    gradients = torch.autograd.grad(loss, [layer.dense_weight for layer in layers])
    for layer, mask in zip(layers, masks, strict=True):
        layer.mask.copy_(mask)
    return list(gradients)


def rigl(data: Split, steps: int, every: int = 50, share: float = 0.3) -> Callable:
    """A hook for ``fit``: move masks every so often, by a share that decays to zero at three quarters."""

    def update(run: Run) -> None:
        step, model = run.step, run.model
        progress = step / (0.75 * steps)
        if step % every or progress >= 1:
            return
        rows = torch.randint(len(data.x), (256,), generator=torch.Generator().manual_seed(step))
        moving = share / 2 * (1 + math.cos(math.pi * progress))
        gradients = dense_gradients(model, data.x[rows], data.y[rows])
        for layer, gradient in zip(sparse_layers(model), gradients, strict=True):
            rigl_update_(layer, gradient, moving)

    return update


def plain_mlp(hidden: int) -> nn.Module:
    """40 inputs, two hidden layers, 10 classes."""
    sizes = ((40, hidden), (hidden, hidden), (hidden, 10))
    first, second, last = (nn.Linear(i, o) for i, o in sizes)
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), second, nn.ReLU(), last)


def wide_mlp(sparsity: float) -> nn.Module:
    """The same network of hidden width 64, every layer wide and sparse, with as many active weights."""
    return nn.Sequential(
        nn.Flatten(),
        SparseWideLinear(40, 64, sparsity, widen_in=False),
        nn.ReLU(),
        SparseWideLinear(64, 64, sparsity),
        nn.ReLU(),
        SparseWideLinear(64, 10, sparsity, widen_out=False),
    )


def parallel_mlp(sparsity: float) -> nn.Module:
    """The same with sparse branches, except for the read-out."""
    hidden = (SparseParallelLinear(i, 64, sparsity) for i in (40, 64))
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(64, 10))


@experiment(paper="sparse-ift", seeds=3)
def wider_and_sparser(seed: int) -> dict[str, float]:
    """Test accuracy on MNIST-1D, after 500 steps of 64, of networks with equally many active weights.

    ``wide 50% fixed``: wide and sparse at this sparsity, its masks fixed or ``moving``; ``parallel 75``:
    branches; ``dense``; ``dense twice as wide``, which has more weights.
    """
    data, steps, result = load("mnist1d"), 500, {}
    arms: dict[str, tuple[Callable[[], nn.Module], bool]] = {
        "dense": (partial(plain_mlp, 64), False),
        "dense twice as wide": (partial(plain_mlp, 128), False),
        "parallel 75": (partial(parallel_mlp, 0.75), True),
    }
    for sparsity in (0.5, 0.75, 0.9):
        for kind, moving in (("fixed", False), ("moving", True)):
            arms[f"wide {sparsity:.0%} {kind}"] = (partial(wide_mlp, sparsity), moving)
    for name, (build, moving) in arms.items():
        torch.manual_seed(seed)
        model = build()
        hooks = [rigl(data.train, steps)] if moving else []
        fit(model, data.train, steps=steps, batch_size=64, lr=3e-3, seed=seed, hooks=hooks)
        result[name] = evaluate(model, data.test)
    return result
