"""Convolution along bytes, along scale and tile by tile, against torch's conv3d, loops and closed forms."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_lib.layers.conv import (
    ConvFirstBlock,
    MalConv,
    PyramidConv,
    ScaleEqualizingPyramidConv,
    block_fused_forward,
    conv_cost,
    decov_penalty,
    deformable_conv2d,
    fused_cost,
    gaussian_pyramid,
    integrated_batch_norm,
    locate_activation,
    traced_costs,
)


def small_malconv(**options):
    torch.manual_seed(0)
    return MalConv(3, channels=5, kernel_size=4, hidden_dim=6, embedding_dim=3, **options).double()


def test_the_gated_convolution_is_torchs_glu_of_one_convolution():
    model, x = small_malconv(stride=3), torch.randint(257, (2, 20))
    weight = torch.cat([model.value.weight, model.gate.weight])
    bias = torch.cat([model.value.bias, model.gate.bias])
    embedded = F.embedding(x, model.embedding.weight).mT
    torch.testing.assert_close(model.features(x), F.glu(F.conv1d(embedded, weight, bias, stride=3), 1))


def test_a_stride_as_long_as_the_window_is_one_linear_layer_on_blocks():
    model, x = small_malconv(), torch.randint(257, (2, 19))
    blocks = model.embedding(x[:, :16]).view(2, 4, 4, 3).mT.flatten(2)  # the last three bytes fill no block
    value = F.linear(blocks, model.value.weight.flatten(1), model.value.bias)
    gate = F.linear(blocks, model.gate.weight.flatten(1), model.gate.bias)
    features = (value * gate.sigmoid()).mT
    torch.testing.assert_close(model.features(x), features)
    best = torch.stack([features[:, :, n] for n in range(4)]).max(0).values
    torch.testing.assert_close(model(x), model.out(model.hidden(best).relu()))


def test_padding_is_a_symbol_without_content_and_short_files_are_refused():
    model = small_malconv()
    assert (model.embedding(torch.tensor([256])) == 0).all()
    assert (model.embedding(torch.tensor([0])) != 0).all()
    with pytest.raises(ValueError, match="shorter"):
        model(torch.zeros(1, 3, dtype=torch.int64))


def test_only_windows_that_win_a_maximum_speak_for_a_class():
    model, x = small_malconv(stride=2), torch.randint(256, (2, 30))
    relevance = locate_activation(model, x, target=1)
    features = model.features(x).detach()
    expected = torch.zeros(2, features.shape[2]).double()
    for b in range(2):
        winners = [int(features[b, c].argmax()) for c in range(5)]
        pooled = features[b, range(5), winners].clone().requires_grad_()
        model.classify(pooled[None])[0, 1].backward()
        for c, n in enumerate(winners):
            expected[b, n] += (pooled[c] * pooled.grad[c]).item()
    torch.testing.assert_close(relevance, expected)
    # the network behind the maximum is piecewise linear: up to biases, relevance is the score
    for layer in (model.hidden, model.out):
        nn.init.zeros_(layer.bias)
    torch.testing.assert_close(locate_activation(model, x, 1).sum(1), model(x)[:, 1])
    assert all(p.grad is None for p in (model.value.weight, model.embedding.weight))


@pytest.mark.parametrize("shape", [(1, 3), (7, 4), (5, 1)])
def test_decov_is_the_off_diagonal_of_numpys_covariance(shape):
    x = torch.randn(shape).double() + 3
    covariance = np.atleast_2d(np.cov(x.numpy().T, bias=True))
    off = covariance - np.diag(np.diag(covariance))
    torch.testing.assert_close(decov_penalty(x).item(), 0.5 * float((off**2).sum()))
    assert torch.autograd.gradcheck(decov_penalty, x.requires_grad_())


# -- Pyramids --------------------------------------------------------------------------------------


def test_the_pyramid_blurs_with_binomial_weights_and_subsamples():
    image = torch.randn(1, 2, 9, 7).double()
    coarse = gaussian_pyramid(image, 2)[1]
    assert coarse.shape == (1, 2, 5, 4)
    binomial = [1, 4, 6, 4, 1]
    value = sum(
        binomial[u + 2] * binomial[v + 2] / 256 * image[0, 1, 4 + u, 2 + v]
        for u in range(-2, 3)
        for v in range(-2, 3)
    )
    torch.testing.assert_close(coarse[0, 1, 2, 1], value)
    flat = gaussian_pyramid(torch.full((1, 1, 12, 12), 7.0).double(), 3)
    for level in flat:
        torch.testing.assert_close(level, torch.full_like(level, 7.0))
    with pytest.raises(ValueError, match="at least 1"):
        gaussian_pyramid(image, 0)
    with pytest.raises(ValueError, match="too few"):
        gaussian_pyramid(image, 5)


def pyramid_inputs(sizes=((8, 6), (4, 3), (2, 2)), channels=3):
    return [torch.randn(2, channels, *size).double().requires_grad_() for size in sizes]


def grown(layer):
    """Kernels of ordinary size: the start at 0.01 would hide errors."""
    for conv in (layer.same, layer.finer, layer.coarser):
        nn.init.normal_(conv.weight)
        nn.init.normal_(conv.bias)
    return layer.double()


def test_on_levels_of_equal_size_the_layer_is_a_three_dimensional_convolution(monkeypatch):
    layer = grown(PyramidConv(3, 4))
    layer.finer.stride = (1, 1)
    monkeypatch.setattr(layer, "_require_pyramid", lambda levels: None)
    for conv in (layer.finer, layer.coarser):
        nn.init.zeros_(conv.bias)
    levels = pyramid_inputs([(5, 6)] * 4)
    weight = torch.stack([layer.finer.weight, layer.same.weight, layer.coarser.weight], 2)
    expected = F.conv3d(torch.stack(levels, 2), weight, layer.same.bias, padding=1)
    ours = torch.stack(layer(levels), 2)
    torch.testing.assert_close(ours, expected)
    for g, h in zip(*(torch.autograd.grad(y.square().sum(), levels) for y in (ours, expected)), strict=True):
        torch.testing.assert_close(g, h)


def test_the_finer_neighbour_is_strided_and_the_coarser_one_enlarged():
    layer, levels = grown(PyramidConv(3, 4)), pyramid_inputs()
    low, middle, high = layer(levels)

    def conv(module, x):
        return F.conv2d(x, module.weight, module.bias, stride=module.stride, padding=1)

    def enlarge(x, size):
        return F.interpolate(x, size=size, mode="bilinear", align_corners=True)

    up = enlarge(conv(layer.coarser, levels[2]), (4, 3))
    torch.testing.assert_close(middle, conv(layer.same, levels[1]) + conv(layer.finer, levels[0]) + up)
    above = enlarge(conv(layer.coarser, levels[1]), (8, 6))
    torch.testing.assert_close(low, conv(layer.same, levels[0]) + above)
    torch.testing.assert_close(high, conv(layer.same, levels[2]) + conv(layer.finer, levels[1]))


def test_levels_that_do_not_halve_are_refused():
    layer = PyramidConv(3, 4).double()
    with pytest.raises(ValueError, match="level 1"):
        layer([torch.zeros(1, 3, 8, 8).double(), torch.zeros(1, 3, 3, 4).double()])
    with pytest.raises(ValueError, match="axis 1"):
        layer([torch.zeros(1, 2, 8, 8).double()])


def test_the_start_is_a_small_normal():
    torch.manual_seed(0)
    layer = PyramidConv(32, 32)
    for conv in (layer.same, layer.coarser, layer.finer):
        assert abs(conv.weight.std() - 0.01) < 0.001
        assert (conv.bias == 0).all()


def test_integrated_batch_norm_is_one_norm_over_the_concatenation():
    levels = pyramid_inputs(channels=2)
    norm = nn.BatchNorm1d(2).double()
    nn.init.normal_(norm.weight)
    ours = integrated_batch_norm(levels, norm)
    pixels = torch.cat([x.flatten(2) for x in levels], 2)
    mean, var = pixels.mean((0, 2)), pixels.var((0, 2), correction=0)
    for x, y in zip(levels, ours, strict=True):
        expected = (x - mean[:, None, None]) / (var + norm.eps).sqrt()[:, None, None]
        torch.testing.assert_close(y, expected * norm.weight[:, None, None] + norm.bias[:, None, None])


@pytest.mark.parametrize(("stride", "padding"), [(1, 1), (2, 1), (1, 0)])
def test_without_offsets_a_deformable_convolution_is_a_plain_one(stride, padding):
    x, weight = torch.randn(2, 3, 7, 6).double(), torch.randn(4, 3, 3, 3).double()
    expected = F.conv2d(x, weight, stride=stride, padding=padding)
    offset = torch.zeros(2, 18, *expected.shape[2:]).double()
    torch.testing.assert_close(deformable_conv2d(x, offset, weight, stride=stride, padding=padding), expected)


def test_whole_offsets_move_the_image_and_broken_ones_read_between_pixels():
    x, weight = torch.randn(1, 2, 6, 8).double(), torch.randn(3, 2, 3, 3).double()
    offset = torch.zeros(1, 9, 2, 6, 8).double()
    offset[:, :, 0], offset[:, :, 1] = 1, -2  # one row down, two columns to the left
    shifted = F.pad(x, (2, 0, 0, 1))[:, :, 1:, :-2]
    inner = (slice(None), slice(None), slice(1, -2), slice(3, -1))  # the borders see other zeros
    moved = deformable_conv2d(x, offset.flatten(1, 2), weight, padding=1)
    torch.testing.assert_close(moved[inner], F.conv2d(shifted, weight, padding=1)[inner])
    half = deformable_conv2d(x, torch.full((1, 18, 6, 8), 0.5).double(), weight, padding=1)
    blurred = F.avg_pool2d(x, 2, 1)  # halfway in both directions: the mean of four pixels
    torch.testing.assert_close(half[:, :, 1:4, 1:6], F.conv2d(blurred, weight))
    with pytest.raises(ValueError, match="18"):
        deformable_conv2d(x, torch.zeros(1, 9, 6, 8).double(), weight, padding=1)


def test_every_tap_has_its_own_offset_and_its_gradient():
    x, weight = torch.randn(1, 1, 4, 4).double(), torch.randn(1, 1, 3, 3).double()
    offset = 0.3 * torch.rand(1, 18, 4, 4).double() + 0.1  # away from the kinks at whole numbers
    assert torch.autograd.gradcheck(
        lambda *inputs: deformable_conv2d(*inputs, padding=1),
        [t.requires_grad_() for t in (x, offset, weight)],
    )
    single = torch.zeros(1, 18, 4, 4).double()
    single[:, 2 * 4 + 1] = 1  # the middle tap looks one column to the right
    only = torch.zeros(1, 1, 3, 3).double()
    only[0, 0, 1, 1] = 1
    torch.testing.assert_close(deformable_conv2d(x, single, only, padding=1), F.pad(x, (0, 1))[..., 1:])


def test_the_scale_equalising_layer_starts_plain_and_leaves_the_finest_level_plain():
    torch.manual_seed(0)
    plain, layer = grown(PyramidConv(3, 4)), ScaleEqualizingPyramidConv(3, 4).double()
    levels = pyramid_inputs()
    layer.load_state_dict(plain.state_dict(), strict=False)
    for ours, expected in zip(layer(levels), plain(levels), strict=True):
        torch.testing.assert_close(ours, expected)
    for conv in layer.offsets.values():
        nn.init.constant_(conv.bias, 0.7)
    finest, middle, coarsest = layer(levels)
    torch.testing.assert_close(finest, plain(levels)[0])
    for moved, before in ((middle, plain(levels)[1]), (coarsest, plain(levels)[2])):
        assert (moved - before).abs().max() > 0.1


# -- Fusion ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 50])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_a_block_computed_in_tiles_equals_the_block(rows, kernel_size):
    block = ConvFirstBlock(8, group_width=4, kernel_size=kernel_size, expansion=3).double()
    x = torch.randn(2, 8, 7, 5).double()
    y, workspace = block_fused_forward(block, x, rows=rows)
    torch.testing.assert_close(y, block(x))
    assert workspace == 2 * 3 * 8 * min(rows, 7) * 5


def test_the_block_is_its_formula_and_checks_its_sizes():
    block, x = ConvFirstBlock(8, group_width=2).double(), torch.randn(2, 8, 5, 6).double()
    inner = F.conv2d(x, block.spatial.weight, block.spatial.bias, padding=1, groups=4)
    inner = F.silu(F.conv2d(inner, block.expand.weight, block.expand.bias))
    torch.testing.assert_close(block(x), x + F.conv2d(inner, block.project.weight, block.project.bias))
    for options in ({"group_width": 3}, {"group_width": 0}, {"kernel_size": 2}):
        with pytest.raises(ValueError, match=f"ConvFirstBlock: {next(iter(options))}"):
            ConvFirstBlock(8, **options)
    with pytest.raises(ValueError, match="rows must be an integer of at least 1"):
        block_fused_forward(block, x, rows=0)


def test_traced_and_counted_bytes_of_the_block_agree_and_fusing_saves_the_wide_tensor():
    block = ConvFirstBlock(64)
    chain = [
        conv_cost((32, 32), 64, 64, 3, groups=8),
        conv_cost((32, 32), 64, 256, 1),
        conv_cost((32, 32), 256, 64, 1),
    ]
    traced = [cost for name, cost in traced_costs(block, torch.zeros(1, 64, 32, 32)) if name == "convolution"]
    biases = [64, 256, 64]
    for ours, seen, bias in zip(chain, traced, biases, strict=True):
        assert (seen.operations, seen.inputs, seen.outputs) == (ours.operations, ours.inputs, ours.outputs)
        assert seen.weights == ours.weights + bias
    saved = sum(chain).bytes - fused_cost(chain).bytes
    assert saved == 4 * 2 * (64 + 256) * 32 * 32
