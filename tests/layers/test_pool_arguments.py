"""Arguments, inputs, construction, tracing and half precision of the layers of layers/pool."""

import pytest
import torch

from course_lib.classroom._contract.subject import as_installed
from course_lib.layers.pool import (
    AttentionPool,
    EfficientLayer,
    GeM,
    GroupGeM,
    LargeContextTransposedConv2d,
    MaxPoolMixer,
    PatchConvNet,
    PolarizedSelfAttention,
    SoftPool2d,
    SpatialPyramidPool,
    adaptive_bins,
    generalized_mean,
    overlap_count,
    sliding_bins,
    soft_pool2d,
)


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (lambda: GeM(eps=0.0), ValueError, "GeM: eps must be a finite number above 0"),
        (lambda: GroupGeM(4, 2, p=0), ValueError, "GroupGeM: order p=0"),
        (
            lambda: EfficientLayer(4, grid=(2, 3), kernel_size=2),
            ValueError,
            "EfficientLayer: kernel_size must be odd",
        ),
        (lambda: PolarizedSelfAttention(5), ValueError, "PolarizedSelfAttention: channels must be even"),
        (lambda: SpatialPyramidPool(levels=()), ValueError, "SpatialPyramidPool: levels must be"),
        (lambda: SpatialPyramidPool()(torch.zeros(1, 2, 0, 3)), ValueError, "is empty"),
        (lambda: AttentionPool(4)(torch.zeros(1, 0, 4)), ValueError, "no position"),
        (lambda: SoftPool2d(3)(torch.zeros(1, 1, 2, 5)), ValueError, "3 x 3 do not fit an image of 2 x 5"),
        (lambda: soft_pool2d(torch.zeros(1, 1, 4, 4), 0), ValueError, "soft_pool2d: kernel_size must be"),
        (lambda: soft_pool2d(torch.zeros(1, 1, 4, 4).int(), 2), TypeError, "soft_pool2d expects x of real"),
        (lambda: generalized_mean(torch.ones(1, 2, 3).int(), torch.ones(3)), TypeError, "generalized_mean"),
        (lambda: adaptive_bins(0, 1), ValueError, "adaptive_bins: size must be"),
        (lambda: sliding_bins(3, 0), ValueError, "sliding_bins: bins must be"),
        (lambda: overlap_count(3, 3, stride=0), ValueError, "overlap_count: stride must be"),
        (
            lambda: LargeContextTransposedConv2d(1, 1, kernel_size=3),
            ValueError,
            "small_kernel_size < kernel_size",
        ),
    ],
)
def test_what_the_docstrings_promise_to_refuse(run, error, message):
    with as_installed(), pytest.raises(error, match=message):
        run()


OPEN = {
    "GeM": (GeM, {1: "t"}),
    "GroupGeM": (lambda: GroupGeM(6, 3), {1: "t"}),
    "AttentionPool": (lambda: AttentionPool(6), {1: "t"}),
    "SoftPool2d": (lambda: SoftPool2d(2), {2: "i", 3: "j"}),
    "SoftPool2d, overlapping": (lambda: SoftPool2d(3, stride=2), {2: "i", 3: "j"}),
    "MaxPoolMixer": (MaxPoolMixer, {2: "i", 3: "j"}),
    "PolarizedSelfAttention": (lambda: PolarizedSelfAttention(6), {2: "i", 3: "j"}),
    "LargeContextTransposedConv2d": (lambda: LargeContextTransposedConv2d(6, 2), {2: "i", 3: "j"}),
    "PatchConvNet": (lambda: PatchConvNet(6, 3, dim=4, depth=1, stem_stages=1), {2: "i", 3: "j"}),
}


@pytest.mark.parametrize("name", OPEN)
def test_export_leaves_time_or_sides_open(name):
    build, axes = OPEN[name]
    layer = build().double().eval()

    def inputs(size):
        shape = (2, size, 6) if 1 in axes else (2, 6, size, size + 3)
        return torch.rand(shape, generator=torch.Generator().manual_seed(size)).double() + 0.1

    sizes = {axis: torch.export.Dim(letter, min=5, max=64) for axis, letter in axes.items()}
    with as_installed():
        program = torch.export.export(layer, (inputs(8),), dynamic_shapes=(sizes,), strict=False).module()
    for size in (8, 5, 12):
        torch.testing.assert_close(program(inputs(size)), layer(inputs(size)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("p", [0.5, 3.0, 40.0])
def test_generalized_mean_of_half_precision_is_that_of_its_float32(dtype, p):
    x = (100 * torch.rand(2, 50, 4)).to(dtype)
    x[0, 0] = 0.0
    order = torch.full((4,), p, requires_grad=True)
    for eps in (1e-6, 1e-12):  # the second is zero in float16
        y = generalized_mean(x.requires_grad_(), order, eps=eps)
        assert y.dtype == dtype
        torch.testing.assert_close(y.float(), generalized_mean(x.float(), order, eps=eps), rtol=1e-2, atol=0)
        assert all(g.isfinite().all() for g in torch.autograd.grad(y.float().sum(), (x, order)))
