"""Convolution arithmetic and cost, against torch, scipy, explicit matrices and torch's own counter."""

import itertools
import math

import pytest
import torch
from scipy.signal import correlate2d
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from course_lib.classroom._contract.subject import as_installed
from course_lib.layers.conv import (
    Cost,
    Machine,
    conv2d_im2col,
    conv2d_naive,
    conv_cost,
    conv_matrix,
    conv_output_size,
    conv_transpose2d_naive,
    fused_cost,
    measure_machine,
    receptive_field,
    roofline_time,
    traced_costs,
    transposed_output_size,
    waterline_analysis,
)

OPTIONS = [
    {},
    {"stride": 2},
    {"padding": 1},
    {"dilation": 2, "padding": 3},
    {"stride": 3, "padding": 2, "dilation": 2},
]


def same_in_value_and_gradient(ours, theirs, *inputs):
    """Both functions agree, and so do the gradients of all inputs."""
    inputs = [x.clone().requires_grad_() for x in inputs]
    a, b = ours(*inputs), theirs(*inputs)
    torch.testing.assert_close(a, b)
    weights = torch.randn(a.shape, generator=torch.Generator().manual_seed(1)).to(a)
    for g, h in zip(*(torch.autograd.grad(y, inputs, weights) for y in (a, b)), strict=True):
        torch.testing.assert_close(g, h)
    return True


def test_sizes_of_convolutions_agree_with_torch_on_a_whole_grid():
    grid = itertools.product(range(5, 17), range(1, 6), range(1, 4), range(3), range(1, 3))
    seen = 0
    for size, k, stride, padding, dilation in grid:
        options = {"stride": stride, "padding": padding, "dilation": dilation}
        weight = torch.empty(1, 1, k, device="meta")
        try:
            expected = F.conv1d(torch.empty(1, 1, size, device="meta"), weight, **options).shape[2]
        except RuntimeError:
            with pytest.raises(ValueError, match="does not fit"):
                conv_output_size(size, k, **options)
            continue
        assert conv_output_size(size, k, **options) == expected
        seen += 1
        extra = (size + 2 * padding - dilation * (k - 1) - 1) % stride
        assert transposed_output_size(expected, k, output_padding=extra, **options) == size
    assert seen > 1000


def test_sizes_of_transposed_convolutions_agree_with_torch_for_every_output_padding():
    grid = itertools.product(range(1, 8), range(1, 6), range(1, 4), range(3), range(1, 3), range(3))
    for size, k, stride, padding, dilation, extra in grid:
        options = {"stride": stride, "padding": padding, "dilation": dilation, "output_padding": extra}
        x, weight = torch.empty(1, 1, size, device="meta"), torch.empty(1, 1, k, device="meta")
        try:
            expected = F.conv_transpose1d(x, weight, **options).shape[2]
        except RuntimeError:
            expected = 0
        if extra >= max(stride, dilation) or expected < 1:
            with pytest.raises(ValueError, match="padding"):
                transposed_output_size(size, k, **options)
        else:
            assert transposed_output_size(size, k, **options) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((5, 0), "kernel_size"), ((0, 1), "size"), ((4, 7), "pad more")],
)
def test_sizes_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        conv_output_size(*arguments)
    with pytest.raises(ValueError, match="padding must be an integer of at least 0"):
        conv_output_size(5, 3, padding=-1)


@pytest.mark.parametrize("convolve", [conv2d_naive, conv2d_im2col])
@pytest.mark.parametrize("options", OPTIONS)
def test_convolutions_equal_torch_in_value_and_gradient(convolve, options):
    x, weight = torch.randn(2, 3, 7, 5).double() + 10, torch.randn(4, 3, 3, 2).double()
    assert same_in_value_and_gradient(
        lambda x, w: convolve(x, w, **options), lambda x, w: F.conv2d(x, w, **options), x, weight
    )


@pytest.mark.parametrize("convolve", [conv2d_naive, conv2d_im2col])
def test_a_convolution_is_what_scipy_calls_a_correlation(convolve):
    x, weight = torch.randn(6, 5).double(), torch.randn(3, 3).double()
    ours = convolve(x[None, None], weight[None, None], padding=1)[0, 0]
    torch.testing.assert_close(ours, torch.from_numpy(correlate2d(x, weight, mode="same")))


@pytest.mark.parametrize("convolve", [conv2d_naive, conv2d_im2col])
def test_convolutions_refuse_other_channels(convolve):
    with pytest.raises(ValueError, match="same c"), as_installed():
        convolve(torch.zeros(1, 2, 5, 5), torch.zeros(1, 3, 2, 2))


@pytest.mark.parametrize("options", OPTIONS)
def test_the_matrix_is_the_convolution_and_its_transpose_the_transposed_convolution(options):
    x, kernel = torch.randn(7, 6).double(), torch.randn(3, 2).double()
    matrix = conv_matrix(kernel, (7, 6), **options)
    y = F.conv2d(x[None, None], kernel[None, None], **options)
    torch.testing.assert_close(matrix @ x.flatten(), y.flatten())
    image = x[None, None].requires_grad_()
    (back,) = torch.autograd.grad(F.conv2d(image, kernel[None, None], **options), image, y)
    torch.testing.assert_close(matrix.T @ y.flatten(), back.flatten())


@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("options", OPTIONS)
def test_stretching_and_flipping_is_torchs_transposed_convolution(options, extra):
    if extra >= max(options.get("stride", 1), options.get("dilation", 1)):
        extra = 0
    y, weight = torch.randn(2, 4, 5, 3).double(), torch.randn(4, 3, 3, 3).double()
    options = {**options, "output_padding": extra}
    assert same_in_value_and_gradient(
        lambda y, w: conv_transpose2d_naive(y, w, **options),
        lambda y, w: F.conv_transpose2d(y, w, **options),
        y,
        weight,
    )


def test_the_transposed_convolution_is_the_adjoint_and_not_the_inverse():
    x, weight = torch.randn(1, 2, 9, 8).double(), torch.randn(3, 2, 3, 3).double()
    cx = F.conv2d(x, weight, stride=2, padding=1)
    y = torch.randn_like(cx)
    back = conv_transpose2d_naive(y, weight, stride=2, padding=1)
    back = F.pad(back, (0, x.shape[3] - back.shape[3], 0, x.shape[2] - back.shape[2]))
    full = conv_transpose2d_naive(cx, weight, stride=2, padding=1)
    wide = F.conv_transpose2d(y, weight, stride=2, padding=1, output_padding=(0, 1))
    torch.testing.assert_close((cx * y).sum(), (x * wide).sum())
    assert back.shape == x.shape
    assert (full - x[:, :, : full.shape[2], : full.shape[3]]).abs().max() > 0.1


def test_the_transposed_convolution_refuses_other_channels_and_empty_outputs():
    with pytest.raises(ValueError, match="same c"), as_installed():
        conv_transpose2d_naive(torch.zeros(1, 2, 5, 5), torch.zeros(3, 2, 2, 2))
    with pytest.raises(ValueError, match="pad less"):
        conv_transpose2d_naive(torch.zeros(1, 2, 1, 1), torch.zeros(2, 1, 1, 1), padding=1)


@pytest.mark.parametrize(("kernel", "dilation"), [((3, 3), 1), ((1, 5), 1), ((3, 3), 2)])
def test_the_receptive_field_of_a_kernel_is_its_footprint(kernel, dilation):
    padding = tuple(dilation * (k // 2) for k in kernel)
    layer = nn.Conv2d(2, 3, kernel, padding=padding, dilation=dilation).double()
    expected = torch.zeros(11, 11, dtype=torch.bool)
    rows, columns = (range(5 - p, 6 + p, dilation) for p in padding)
    expected[torch.tensor(list(rows))[:, None], torch.tensor(list(columns))] = True
    assert torch.equal(receptive_field(layer, 2, (11, 11)), expected)


@pytest.mark.parametrize(
    ("kernel", "options"),
    [
        (3, {}),
        (1, {}),
        ((1, 5), {}),
        (3, {"groups": 8}),
        (3, {"stride": 2, "groups": 2, "padding": 1}),
        (3, {"dilation": 2}),
        (5, {"padding": 0, "batch": 3}),
    ],
)
def test_the_formula_counts_what_torch_counts(kernel, options):
    cost = conv_cost((13, 10), 8, 16, kernel, **options)
    layout = {k: v for k, v in options.items() if k != "batch"}
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    layout.setdefault("padding", tuple(layout.get("dilation", 1) * (k - 1) // 2 for k in sides))
    layer, x = nn.Conv2d(8, 16, kernel, bias=False, **layout), torch.zeros(options.get("batch", 1), 8, 13, 10)
    with FlopCounterMode(display=False) as counter:
        y = layer(x)
    assert 2 * cost.operations == counter.get_total_flops()
    assert (cost.inputs, cost.weights, cost.outputs) == (x.numel(), layer.weight.numel(), y.numel())
    assert cost.bytes == 4 * (x.numel() + layer.weight.numel() + y.numel())
    assert traced_costs(layer, x) == [("convolution", cost)]


def test_costs_of_nonsense_are_refused():
    with pytest.raises(ValueError, match="divide"):
        conv_cost((8, 8), 6, 8, 3, groups=4)
    with pytest.raises(ValueError, match="per axis"):
        conv_cost((8, 8), 6, 8, (3, 3, 3))
    with pytest.raises(ValueError, match="positive"):
        Machine(peak=0, bandwidth=1)


def test_tracing_counts_the_operations_of_a_network_as_torch_does():
    class Attend(nn.Module):
        def forward(self, x):
            return F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None])[:, 0]

    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.GELU(), nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), nn.Flatten(2)
    )
    tail = nn.Sequential(nn.Linear(225, 8), nn.LayerNorm(8))
    x = torch.randn(2, 3, 9, 9)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        tail(model(x))
    total = sum(cost for _, cost in traced_costs(nn.Sequential(model, tail), x))
    assert 2 * total.operations == counter.get_total_flops()
    attention = sum(cost for _, cost in traced_costs(Attend(), torch.randn(2, 5, 8)))
    assert attention.operations == 2 * 2 * 5 * 5 * 8
    product = dict(traced_costs(torch.bmm, torch.ones(3, 4, 5), torch.ones(3, 5, 6)))["bmm"]
    assert (product.operations, product.inputs, product.outputs) == (3 * 4 * 5 * 6, 3 * 20 + 3 * 30, 72)


def test_tracing_knows_weights_and_bytes_and_ignores_views():
    layer, x = nn.Linear(4, 6), torch.randn(5, 4)
    (name, cost), *rest = traced_costs(lambda x: layer(x.view(5, 4)), x)
    assert not rest
    assert (name, cost.inputs, cost.weights) == ("addmm", 20 + 24 + 6, 0)  # a bare function has no weights
    assert traced_costs(layer, x)[0][1] == Cost(5 * 4 * 6, 20, 30, 30)
    assert traced_costs(layer.double(), x.double())[0][1].bytes == 8 * 80


def test_a_fused_chain_keeps_operations_and_weights_and_drops_what_is_between():
    a, b = conv_cost((8, 8), 4, 16, 1), conv_cost((8, 8), 16, 2, 3)
    fused = fused_cost([a, b])
    assert fused.operations == a.operations + b.operations
    assert fused.bytes == 4 * (4 * 64 + 2 * 64 + 64 + 16 * 2 * 9)
    assert fused_cost([a]) == a
    assert (a + b).bytes - fused.bytes == 2 * 4 * 16 * 64  # the wide tensor, written and read
    with pytest.raises(ValueError, match="at least one"):
        fused_cost([])


def test_costs_of_several_types_add_their_bytes():
    both = Cost(3, 1, 2, 3) + Cost(4, 5, 6, 8, itemsize=8)
    assert (both.operations, both.inputs, both.weights, both.outputs) == (7, 6, 8, 11)
    assert both.bytes == 4 * 6 + 8 * 19
    assert sum([Cost(1, 1, 1, 1)] * 3) == Cost(3, 3, 3, 3)


def test_the_roofline_has_its_two_limits():
    machine = Machine(peak=1e9, bandwidth=1e8)
    assert machine.balance == 10
    assert roofline_time(Cost(0, 50, 25, 25), machine) == 400 / 1e8  # intensity 0: bytes over bandwidth
    assert roofline_time(Cost(1e12, 50, 25, 25), machine) == 1e3  # large intensity: operations over peak
    at_balance = Cost(4000, 50, 25, 25)
    assert at_balance.operations / machine.peak == at_balance.bytes / machine.bandwidth
    assert roofline_time(at_balance, machine) == 4000 / 1e9


def test_the_waterline_shares_add_up_and_efficiency_is_capped_at_one():
    machine = Machine(peak=1e9, bandwidth=1e8)
    costs = {"dense": conv_cost((16, 16), 64, 64, 3), "depthwise": conv_cost((16, 16), 64, 64, 3, groups=64)}
    rows = waterline_analysis(costs, machine)
    for key in ("operations", "time"):
        assert math.isclose(rows["dense"][key] + rows["depthwise"][key], 1)
    assert rows["dense"]["efficiency"] == 1
    low = rows["depthwise"]
    assert math.isclose(low["efficiency"], low["intensity"] / machine.balance)
    times = {name: roofline_time(cost, machine) for name, cost in costs.items()}
    whole = sum(c.operations for c in costs.values()) / machine.peak / sum(times.values())
    assert math.isclose(rows["all"]["efficiency"], whole)
    for bad in ({}, {"all": costs["dense"]}):
        with pytest.raises(ValueError, match="'all'"):
            waterline_analysis(bad, machine)


def test_a_measured_machine_is_a_plausible_one():
    machine = measure_machine(size=128, megabytes=1, repeats=2)
    assert 1e7 < machine.peak < 1e15
    assert 1e7 < machine.bandwidth < 1e13
