"""The byte counter, against bytes counted by hand."""

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from course_lib.training.memory_saving import PeakMeter, saved_bytes

FLOAT = 4


def mlp(depth: int, width: int = 11) -> nn.Sequential:
    return nn.Sequential(*(layer for _ in range(depth) for layer in (nn.Linear(width, width), nn.ReLU())))


@pytest.mark.parametrize(
    ("layer", "shape", "numbers"),
    [
        (nn.Linear(3, 5), (7, 3), 7 * 3),  # its input
        (nn.Linear(3, 5, bias=False), (2, 7, 3), 2 * 7 * 3),
        (nn.ReLU(), (7, 3), 7 * 3),  # its output
        (nn.GELU(), (7, 3), 7 * 3),  # its input
        (nn.LayerNorm(3), (7, 3), 7 * 3 + 7 + 7),  # its input, mean and inverse deviation of every row
        (nn.Conv1d(2, 4, 3), (5, 2, 9), 5 * 2 * 9),
        (nn.Identity(), (7, 3), 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_a_layer_keeps_the_bytes_that_its_backward_needs(layer, shape, numbers):
    x = torch.randn(shape, requires_grad=True)
    assert saved_bytes(lambda: layer(x)) == numbers * FLOAT


def test_bytes_follow_the_dtype():
    layer = nn.Linear(3, 5).double()
    assert saved_bytes(lambda: layer(torch.zeros(7, 3, dtype=torch.float64))) == 7 * 3 * 8


def test_a_storage_is_counted_once_however_many_layers_keep_it():
    first, second = nn.Linear(3, 5), nn.Linear(3, 5)
    x = torch.randn(7, 3)
    assert saved_bytes(lambda: first(x) + second(x)) == 7 * 3 * FLOAT
    assert saved_bytes(lambda: first(x) + second(x.clone())) == 2 * 7 * 3 * FLOAT
    assert saved_bytes(lambda: first(x) + second(x.view(7, 3))) == 7 * 3 * FLOAT


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_a_network_keeps_every_activation_once(depth):
    # The output of a ReLU is the input of the next linear layer: one storage. The last output is kept too.
    x = torch.randn(7, 11)
    assert saved_bytes(lambda: mlp(depth)(x)) == (depth + 1) * 7 * 11 * FLOAT


def test_nothing_is_kept_without_gradients():
    x = torch.randn(7, 11)
    with torch.no_grad():
        assert saved_bytes(lambda: mlp(2)(x)) == 0


def test_ignored_tensors_are_not_counted():
    data = torch.randn(100, 3)
    layer = nn.Linear(3, 5)
    assert saved_bytes(lambda: layer(data[10:20])) == 100 * 3 * FLOAT  # a view keeps the whole storage alive
    assert saved_bytes(lambda: layer(data[10:20]), ignore=[data]) == 0


def test_peak_and_total_differ_where_backward_runs_layer_by_layer():
    layers = [nn.Sequential(nn.Linear(11, 11), nn.ReLU()) for _ in range(6)]

    def local() -> None:
        h = torch.randn(7, 11)
        for layer in layers:
            h = layer(h)
            h.square().sum().backward()
            h = h.detach()

    with PeakMeter() as meter:
        local()
    assert meter.live == 0
    assert meter.peak == 2 * 7 * 11 * FLOAT  # one layer: its input and its output
    assert (
        meter.total == 6 * meter.peak
    )  # what leaves a layer is dropped and, as the next one's input, kept again


def test_peak_is_that_of_the_largest_moment():
    small, large = nn.Linear(11, 2), nn.Linear(11, 2)

    def step() -> None:
        for layer, rows in ((small, 3), (large, 50), (small, 4)):
            layer(torch.randn(rows, 11)).sum().backward()

    with PeakMeter() as meter:
        step()
    assert meter.peak == 50 * 11 * FLOAT
    assert meter.total == (3 + 50 + 4) * 11 * FLOAT


def test_checkpointing_keeps_one_input():
    model = mlp(6)
    x = torch.randn(7, 11, requires_grad=True)
    assert saved_bytes(lambda: checkpoint(model, x, use_reentrant=True)) == 7 * 11 * FLOAT


def test_gradients_are_those_without_the_meter():
    model = nn.Sequential(nn.Linear(3, 5), nn.GELU(), nn.LayerNorm(5), nn.Linear(5, 2), nn.Tanh())
    x = torch.randn(7, 3, requires_grad=True)

    def gradients() -> tuple[torch.Tensor, ...]:
        y = model(x)
        inner = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        return *inner, *torch.autograd.grad(inner[0].square().sum() + y.sum(), [x, *model.parameters()])

    expected = gradients()
    with PeakMeter():
        measured = gradients()
    assert all(torch.equal(a, b) for a, b in zip(measured, expected, strict=True))


def test_the_meter_keeps_nothing_alive():
    # ReLU, tanh and softmax save their own output: kept as it is, it would hold its own graph alive for ever.
    gc.disable()
    try:
        with PeakMeter() as meter:
            y = mlp(2)(torch.randn(7, 11)).tanh().softmax(-1)
            gone = weakref.ref(y)
            assert meter.live > 0
            del y
            assert gone() is None
            assert meter.live == 0
    finally:
        gc.enable()


def test_the_count_goes_on_when_the_context_is_closed():
    with PeakMeter() as meter:
        y = mlp(1)(torch.randn(7, 11))
    before = meter.live
    mlp(1)(torch.randn(7, 11))  # not seen
    assert meter.live == before > 0
    y.sum().backward()
    assert meter.live == 0


def test_an_error_inside_comes_through_and_the_hooks_are_taken_off():
    def fail() -> None:
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        saved_bytes(fail)
    with PeakMeter() as outer:
        pass
    nn.Linear(3, 5)(torch.randn(7, 3))
    assert outer.total == 0
