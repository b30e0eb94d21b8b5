"""Means of every order, soft pooling, max-pooling as a layer, the pyramid: against torch, scipy and loops."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn
from torch.nn import functional as F

from course_lib.layers.pool import (
    EfficientLayer,
    GeM,
    GroupGeM,
    MaxPoolMixer,
    ParameterFreeBottleneck,
    SoftPool2d,
    SpatialPyramidPool,
    adaptive_bins,
    generalized_mean,
    generalized_mean_naive,
    pool_regions,
    pooling_information_loss,
    project_boxes,
    sliding_bins,
    soft_pool2d,
    soft_pool2d_naive,
)
from tests.oracles import values_and_gradients


def double(*shape):
    return torch.randn(*shape, dtype=torch.float64)


# -- Means of every order ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 7, 3), (3, 2, 5)], ids=str)
@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, 5.0])
def test_the_mean_of_order_p_is_torchs_power_sum_over_the_root_of_the_count(shape, p):
    x = double(*shape).abs() + 0.1
    order = torch.full(shape[-1:], p, dtype=torch.float64)
    count = shape[1]
    peer = values_and_gradients(lambda x: F.lp_pool1d(x.mT, p, count)[..., 0] / count ** (1 / p), x)
    for ours in (generalized_mean, generalized_mean_naive):
        torch.testing.assert_close(values_and_gradients(lambda x, ours=ours: ours(x, order), x), peer)


def test_both_forms_agree_in_value_and_in_the_gradients_of_values_and_orders():
    x, p = double(2, 7, 5).abs(), torch.tensor([-2.0, -0.5, 0.3, 1.0, 6.0], dtype=torch.float64)
    torch.testing.assert_close(
        values_and_gradients(generalized_mean, x, p), values_and_gradients(generalized_mean_naive, x, p)
    )
    assert torch.autograd.gradcheck(
        lambda x, p: generalized_mean(x, p), (x.requires_grad_(), p.requires_grad_())
    )


def test_the_gradients_are_those_of_the_closed_form():
    x, p = double(1, 6, 1).abs() + 0.1, torch.tensor([2.5], dtype=torch.float64)
    x.requires_grad_()
    p.requires_grad_()
    f = generalized_mean(x, p)
    dx, dp = torch.autograd.grad(f.sum(), (x, p))
    torch.testing.assert_close(dx, (x / f).pow(p - 1) / 6)
    weights = x.pow(p) / x.pow(p).sum()
    torch.testing.assert_close(dp, (f * ((weights * x.log()).sum() - f.log()) / p).reshape(1))


def test_it_grows_with_the_order_from_minimum_to_maximum():
    x = torch.rand(3, 11, 2, dtype=torch.float64) + 0.01
    orders = (-400.0, -3.0, -1.0, 0.5, 1.0, 2.0, 8.0, 400.0)
    means = torch.stack([generalized_mean(x, torch.full((2,), p, dtype=torch.float64)) for p in orders])
    assert (means.diff(dim=0) > 0).all()
    torch.testing.assert_close(means[0], x.amin(1), rtol=0.01, atol=0)
    torch.testing.assert_close(means[-1], x.amax(1), rtol=0.01, atol=0)
    torch.testing.assert_close(means[4], x.mean(1))


def test_the_logarithmic_form_survives_where_powers_vanish_or_overflow():
    for value, p in ((1e-6, 8.0), (1e3, 40.0)):
        x = torch.full((1, 5, 1), value)
        assert not torch.isclose(generalized_mean_naive(x, torch.tensor([p])), torch.tensor(value)).all()
        torch.testing.assert_close(
            generalized_mean(x, torch.tensor([p])), torch.tensor([[value]]), rtol=1e-4, atol=0
        )


def test_one_group_is_gem_a_group_per_channel_is_an_order_each_and_groups_are_neighbours():
    x = torch.rand(2, 5, 6, dtype=torch.float64) + 0.1
    torch.testing.assert_close(GroupGeM(6, 1).double()(x), GeM().double()(x))
    groups = GroupGeM(6, 3).double()
    with torch.no_grad():
        groups.p.copy_(torch.tensor([1.0, 2.0, 300.0]))
    y = groups(x)
    torch.testing.assert_close(y[:, :2], x[..., :2].mean(1))
    torch.testing.assert_close(y[:, 2:4], x[..., 2:4].square().mean(1).sqrt())
    torch.testing.assert_close(y[:, 4:], x[..., 4:].amax(1), rtol=0.01, atol=0)
    assert GroupGeM(6, 6).p.numel() == 6


def test_negative_values_count_as_eps():
    x = double(2, 5, 3)
    torch.testing.assert_close(GeM(p=1.0).double()(x), x.clamp(min=1e-6).mean(1))


def test_generalized_means_refuse_what_they_cannot_pool():
    with pytest.raises(ValueError, match="GroupGeM: num_groups=4 does not divide dim=6"):
        GroupGeM(6, 4)
    with pytest.raises(ValueError, match="p=0"):
        GeM(p=0.0)
    with pytest.raises(ValueError, match=r"t > 0 .* got \(2, 0, 4\) and \(4,\)"):
        GeM()(torch.rand(2, 0, 4))


# -- Soft pooling -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "k", "stride"), [((1, 1), 1, 1), ((7, 5), 2, 2), ((5, 7), 3, 2), ((6, 6), 2, 3)]
)
@pytest.mark.parametrize("beta", [0.0, 1.0, -2.0])
def test_soft_pooling_is_unfold_softmax_and_weighted_sum(size, k, stride, beta):
    x = double(2, 3, *size)

    def peer(x):
        windows = F.unfold(x, k, stride=stride).unflatten(1, (3, k * k))
        pooled = torch.einsum("bcnl,bcnl->bcl", (beta * windows).softmax(2), windows)
        return pooled.unflatten(-1, ((size[0] - k) // stride + 1, (size[1] - k) // stride + 1))

    ours = values_and_gradients(lambda x: soft_pool2d(x, k, stride=stride, beta=beta), x)
    torch.testing.assert_close(ours, values_and_gradients(peer, x))


def test_soft_pooling_is_the_quotient_of_two_average_poolings():
    x = double(2, 3, 7, 5)
    for stride in (None, 1):
        torch.testing.assert_close(
            values_and_gradients(lambda x, s=stride: soft_pool2d(x, 2, stride=s), x),
            values_and_gradients(lambda x, s=stride: soft_pool2d_naive(x, 2, stride=s), x),
        )


def test_the_quotient_overflows_and_a_global_maximum_underflows_where_the_window_maximum_does_not():
    x = torch.zeros(1, 1, 2, 4)
    x[..., :2] = torch.tensor([100.0, 101.0])
    assert soft_pool2d_naive(x, 2).isnan().any()
    shifted = soft_pool2d_naive(x - x.max() - 5, 2) + x.max() + 5
    assert shifted[..., 1].isnan().all()
    expected = torch.tensor([[[[101 - 1 / (1 + np.e), 0.0]]]], dtype=torch.float32)
    torch.testing.assert_close(soft_pool2d(x, 2), expected)


def test_the_limits_of_beta_are_average_and_maximum_and_constants_stay():
    x = double(2, 3, 6, 4)
    torch.testing.assert_close(soft_pool2d(x, 2, beta=0.0), F.avg_pool2d(x, 2))
    torch.testing.assert_close(soft_pool2d(x, 2, beta=1e4), F.max_pool2d(x, 2))
    torch.testing.assert_close(
        soft_pool2d(torch.full_like(x, 7.0), 2), torch.full((2, 3, 3, 2), 7.0).double()
    )


def test_the_gradient_of_a_window_is_w_times_one_plus_a_minus_y_and_can_be_negative():
    x = torch.tensor([[[[-3.0, 0.5], [1.0, 2.0]]]], dtype=torch.float64, requires_grad=True)
    y = SoftPool2d(2)(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    weights = x.flatten().softmax(0).reshape(1, 1, 2, 2)
    torch.testing.assert_close(gradient, weights * (1 + x - y))
    assert gradient[0, 0, 0, 0] < 0
    torch.testing.assert_close(gradient.sum(), torch.tensor(1.0).double())
    assert torch.autograd.gradcheck(SoftPool2d(2, stride=1), (double(1, 2, 3, 3).requires_grad_(),))


def test_mean_soft_and_maximum_are_ordered_in_value_and_in_error():
    x = double(3, 2, 8, 6)
    mean, soft, largest = F.avg_pool2d(x, 2), soft_pool2d(x, 2), F.max_pool2d(x, 2)
    assert (mean <= soft).all()
    assert (soft <= largest).all()
    errors = [pooling_information_loss(x, p).error for p in (nn.AvgPool2d(2), SoftPool2d(2), nn.MaxPool2d(2))]
    assert errors == sorted(errors)


def test_the_loss_of_average_pooling_is_the_variance_inside_the_windows():
    x = double(1, 1, 6, 4)
    windows = F.unfold(x, 2, stride=2)
    loss = pooling_information_loss(x, nn.AvgPool2d(2), bright=1.0)
    assert loss.error == pytest.approx(windows.var(1, correction=0).mean().item())
    assert loss.bright_energy == pytest.approx((windows.mean(1).square().sum() * 4 / x.square().sum()).item())
    assert pooling_information_loss(x, nn.Identity()) == (0.0, pytest.approx(1.0))


def test_soft_pooling_refuses_windows_that_do_not_fit_and_a_way_back_to_another_size():
    with pytest.raises(ValueError, match="3 x 3 do not fit an image of 2 x 5"):
        soft_pool2d(torch.zeros(1, 1, 2, 5), 3)
    with pytest.raises(ValueError, match=r"restored to \(1, 1, 2, 2\) instead of \(1, 1, 4, 4\)"):
        pooling_information_loss(torch.ones(1, 1, 4, 4), nn.AvgPool2d(2), unpool=nn.Identity())


# -- Pooling as a layer -------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3, 5])
def test_the_mixer_is_grey_dilation_with_minus_infinity_outside(k):
    x = double(2, 3, 7, 5) - 10  # all negative: zeros outside would win
    expected = [
        [ndimage.grey_dilation(c.numpy(), size=(k, k), mode="constant", cval=-np.inf) for c in image]
        for image in x
    ]
    torch.testing.assert_close(MaxPoolMixer(kernel_size=k)(x), torch.tensor(np.array(expected)))


def test_the_mixer_commutes_with_growing_functions_and_with_shifts():
    x, mixer = double(2, 3, 6, 6), MaxPoolMixer()
    for growing in (torch.relu, torch.tanh, lambda t: 3 * t - 1):
        torch.testing.assert_close(mixer(growing(x)), growing(mixer(x)), rtol=0, atol=0)
    assert not torch.allclose(mixer(F.gelu(x)), F.gelu(mixer(x)))
    wide = F.pad(x, (2, 2, 2, 2), value=-torch.inf)
    torch.testing.assert_close(mixer(wide.roll(1, 3)), mixer(wide).roll(1, 3))


def test_a_strided_mixer_keeps_every_second_value_of_the_dense_one():
    x = double(1, 2, 7, 8)
    torch.testing.assert_close(MaxPoolMixer(stride=2)(x), MaxPoolMixer()(x)[..., ::2, ::2])


def test_the_bottleneck_has_no_spatial_parameters_and_with_the_identity_is_pointwise():
    def count(m):
        return sum(p.numel() for p in m.parameters())

    assert count(ParameterFreeBottleneck(8, 2).mixer) == 0
    block = ParameterFreeBottleneck(8, 2, mixer=nn.Identity()).double().eval()
    x = double(3, 8, 4, 5)
    pixels = x.permute(0, 2, 3, 1).reshape(-1, 8, 1, 1)
    torch.testing.assert_close(block(pixels).reshape(3, 4, 5, 8).permute(0, 3, 1, 2), block(x))
    pooled = ParameterFreeBottleneck(8, 2).double().eval()
    assert not torch.allclose(pooled(pixels).reshape(3, 4, 5, 8).permute(0, 3, 1, 2), pooled(x))


def test_the_bottleneck_is_its_equation_in_value_and_gradient():
    block, x = ParameterFreeBottleneck(3, 2, stride=2).double().eval(), double(2, 3, 5, 4)

    def by_hand(x):
        def norm(t, bn):
            return (t - bn.running_mean[:, None, None]) / (bn.running_var + bn.eps)[:, None, None].sqrt()

        hidden = torch.einsum("oc,bcij->boij", block.reduce[0].weight[..., 0, 0], x)
        hidden = F.max_pool2d(norm(hidden, block.reduce[1]).relu(), 3, 2, 1)
        wide = torch.einsum("oc,bcij->boij", block.expand[0].weight[..., 0, 0], hidden)
        skip = torch.einsum("oc,bcij->boij", block.skip[0].weight[..., 0, 0], x[..., ::2, ::2])
        return (norm(wide, block.expand[1]) + norm(skip, block.skip[1])).relu()

    torch.testing.assert_close(values_and_gradients(block, x), values_and_gradients(by_hand, x))


def test_the_efficient_layer_is_its_loop_over_neighbours():
    layer, x = EfficientLayer(3, grid=(2, 4)).double(), double(2, 8, 3)

    def by_loop(x):
        hidden = F.gelu(layer.widen(x)).reshape(2, 2, 4, 9)
        pooled = torch.stack(
            [
                hidden[:, max(0, i - 1) : i + 2, max(0, j - 1) : j + 2].amax((1, 2))
                for i in range(2)
                for j in range(4)
            ],
            dim=1,
        )
        return layer.narrow(F.gelu(pooled))

    torch.testing.assert_close(values_and_gradients(layer, x), values_and_gradients(by_loop, x))


def test_parameter_free_layers_refuse_even_windows_and_wrong_grids():
    with pytest.raises(ValueError, match="kernel_size must be odd"):
        MaxPoolMixer(kernel_size=2)
    with pytest.raises(ValueError, match=r"got shape \(1, 7, 3\); these are the tokens of a grid of 2 x 4"):
        EfficientLayer(3, grid=(2, 4))(torch.randn(1, 7, 3))


# -- The pyramid --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(8, 8), (13, 24), (3, 1)], ids=str)
def test_the_pyramid_is_torchs_adaptive_pooling_level_by_level(size):
    x, pool = double(2, 3, *size), SpatialPyramidPool(levels=(1, 2, 3, 6))
    peers = [nn.AdaptiveMaxPool2d(n) for n in (1, 2, 3, 6)]
    expected = values_and_gradients(lambda x: torch.cat([peer(x).flatten(1) for peer in peers], 1), x)
    torch.testing.assert_close(values_and_gradients(pool, x), expected)
    assert pool(x).shape == (2, 3 * pool.bins)


@pytest.mark.parametrize("size", [1, 5, 10, 13])
@pytest.mark.parametrize("bins", [1, 2, 4, 6])
def test_adaptive_bins_are_those_of_torch_and_cover_every_row(size, bins):
    x = double(1, 1, size, 1)
    ours = torch.stack([x[0, 0, start:stop, 0].max() for start, stop in adaptive_bins(size, bins)])
    torch.testing.assert_close(F.adaptive_max_pool2d(x, (bins, 1)).flatten(), ours)
    assert {row for start, stop in adaptive_bins(size, bins) for row in range(start, stop)} == set(
        range(size)
    )


def test_sliding_bins_are_those_of_a_pooling_layer_and_can_miss_the_last_row():
    for size, bins in ((10, 4), (12, 4), (13, 4), (13, 3)):
        x = double(1, 1, size)
        peer = F.max_pool1d(x, -(-size // bins), size // bins).flatten()
        torch.testing.assert_close(
            peer, torch.stack([x[0, 0, a:b].max() for a, b in sliding_bins(size, bins)])
        )
    assert max(stop for _, stop in sliding_bins(10, 4)) == 9
    assert sliding_bins(12, 4) == adaptive_bins(12, 4)
    with pytest.raises(ValueError, match="stride of 0"):
        sliding_bins(3, 4)


def test_level_one_is_the_global_maximum_and_gradients_reach_maxima_only():
    x = double(2, 3, 5, 7).requires_grad_()
    y = SpatialPyramidPool(levels=(1,))(x)
    torch.testing.assert_close(y, x.amax((2, 3)))
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient, (x == x.amax((2, 3), keepdim=True)).double())


def test_regions_are_the_cells_strictly_inside_each_box():
    features, stride = double(2, 6, 7), 4
    boxes = torch.tensor([[0, 0, 23, 27], [5, 3, 17, 22], [9, 9, 10, 10], [22, 26, 23, 27]])
    pooled = pool_regions(features, boxes, stride=stride, levels=(1, 2))
    for box, row in zip(boxes.tolist(), pooled, strict=True):
        top, left, bottom, right = box
        rows = [m for m in range(6) if top < stride * m < bottom] or [min(top // stride + 1, 5)]
        columns = [m for m in range(7) if left < stride * m < right] or [min(left // stride + 1, 6)]
        region = features[:, rows][:, :, columns]
        torch.testing.assert_close(row[:2], region.amax((1, 2)))
        torch.testing.assert_close(row[2:], F.adaptive_max_pool2d(region, 2).flatten())


def test_projected_boxes_can_be_sliced_and_no_box_gives_no_row():
    cells = project_boxes(torch.tensor([[0, 0, 1, 1], [60, 60, 63, 63], [8, 8, 64, 64]]), 8, (8, 8))
    assert (cells[:, 2:] > cells[:, :2]).all()
    assert (cells >= 0).all()
    assert (cells <= 8).all()
    assert pool_regions(torch.randn(3, 8, 8), torch.empty(0, 4, dtype=torch.long)).shape == (0, 63)
    with pytest.raises(ValueError, match="ends before it begins"):
        project_boxes(torch.tensor([[5, 5, 4, 6]]), 8, (8, 8))
    with pytest.raises(ValueError, match="levels"):
        SpatialPyramidPool(levels=())
