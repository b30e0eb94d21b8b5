"""Statistics, placement and geometry of norms, against torch, scipy and closed forms."""

import pytest
import torch
from scipy.spatial import ConvexHull
from torch import nn
from torch.nn import functional as F

from course_lib.layers.norm import (
    BatchNorm,
    LayerNorm,
    LayerNormRNNCell,
    ResidualSublayer,
    RMSNorm,
    TransformerBlock,
    batch_norm_naive,
    gradient_norm_profile,
    invariance_table,
    layer_norm,
    layer_norm_naive,
    project_out_ones,
    residual_variance_profile,
    rms_norm,
    rms_norm_naive,
    scale_to_sqrt_d,
    unselectable_keys,
)
from tests.oracles import values_and_gradients

SHAPES = [(1, 2), (3, 1), (7, 5), (2, 3, 13)]


def awkward(shape):
    """Data on which plausible formulas fail: usual, large offset, tiny, constant."""
    x = torch.randn(*shape, dtype=torch.float64)
    return {"normal": x, "offset": x + 1e4, "tiny": 1e-6 * x, "constant": torch.full_like(x, 3.0)}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["normal", "offset", "tiny", "constant"])
def test_layer_norm_naive_and_fused_equal_torch_in_value_and_all_gradients(shape, kind):
    x, g, b = awkward(shape)[kind], torch.randn(shape[-1]).double(), torch.randn(shape[-1]).double()
    expected = values_and_gradients(lambda x, g, b: F.layer_norm(x, shape[-1:], g, b, 1e-5), x, g, b)
    for ours in (layer_norm, layer_norm_naive):
        # the gradient of x cancels to zero over the features: compare on the scale of 1/std
        torch.testing.assert_close(values_and_gradients(ours, x, g, b), expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["normal", "offset", "tiny", "constant"])
def test_rms_norm_naive_and_fused_equal_torch_in_value_and_all_gradients(shape, kind):
    x, g = awkward(shape)[kind], torch.randn(shape[-1]).double()
    peer = nn.RMSNorm(shape[-1], eps=1e-5, dtype=torch.float64)
    expected = values_and_gradients(lambda x, g: torch.func.functional_call(peer, {"weight": g}, x), x, g)
    for ours in (rms_norm, rms_norm_naive):
        torch.testing.assert_close(values_and_gradients(ours, x, g), expected, rtol=1e-9, atol=1e-9)


def test_layer_norm_backward_written_by_hand_equals_autograd():
    x, g, dy = torch.randn(7, 5).double(), torch.randn(5).double(), torch.randn(7, 5).double()
    x.requires_grad_()
    layer_norm(x, g, None, 1e-5).backward(dy)
    sigma = (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    n, q = (x - x.mean(-1, keepdim=True)) / sigma, g * dy
    by_hand = (q - q.mean(-1, keepdim=True) - n * (q * n).mean(-1, keepdim=True)) / sigma
    torch.testing.assert_close(x.grad, by_hand.detach())


def test_layer_norm_of_a_constant_vector_is_its_bias():
    norm = LayerNorm(5)
    nn.init.normal_(norm.bias)
    torch.testing.assert_close(norm(torch.full((2, 5), 7.0)), norm.bias.expand(2, 5))


def test_rms_norm_is_layer_norm_on_inputs_of_zero_mean():
    x = torch.randn(4, 9).double()
    x = x - x.mean(-1, keepdim=True)
    torch.testing.assert_close(RMSNorm(9).double()(x), LayerNorm(9).double()(x))


def test_batch_norm_equals_torch_in_training_evaluation_and_running_statistics():
    ours, peer = BatchNorm(5).double(), nn.BatchNorm1d(5).double()
    with torch.no_grad():
        peer.weight.copy_(torch.arange(1.0, 6.0))
        peer.bias.copy_(torch.linspace(-1, 1, 5))
    ours.norm.load_state_dict(peer.state_dict())
    for _ in range(3):
        x = 3 * torch.randn(7, 5).double() + 2
        torch.testing.assert_close(
            values_and_gradients(ours, x), values_and_gradients(peer, x), rtol=1e-9, atol=1e-9
        )
    torch.testing.assert_close(ours.norm.state_dict(), peer.state_dict())
    torch.testing.assert_close(ours.eval()(x), peer.eval()(x))


def test_batch_norm_over_batch_and_tokens_equals_its_equation():
    norm, x = BatchNorm(5).double(), torch.randn(3, 4, 5).double() + 1e3
    torch.testing.assert_close(
        norm(x), batch_norm_naive(x, norm.norm.weight, norm.norm.bias), rtol=1e-7, atol=1e-7
    )


def test_batch_norm_refuses_one_sample_and_leaves_statistics_alone_on_an_empty_batch():
    norm = BatchNorm(3)
    with pytest.raises(ValueError, match="single sample"):
        norm(torch.randn(1, 3))
    assert norm(torch.randn(0, 3)).shape == (0, 3)
    assert torch.equal(norm.norm.running_mean, torch.zeros(3))


@pytest.mark.parametrize("norm", [LayerNorm(3), RMSNorm(3), BatchNorm(3)], ids=lambda n: type(n).__name__)
def test_norms_keep_nan_visible_and_pass_an_empty_batch(norm):
    x = torch.randn(4, 3)
    x[0, 0] = float("nan")
    assert norm(x)[0].isnan().any()
    assert norm(torch.randn(0, 3)).shape == (0, 3)
    with pytest.raises(ValueError, match=r"got shape \(4, 2\)"):
        norm(torch.randn(4, 2))


def test_recurrent_cell_with_the_norm_taken_out_equals_torch_rnn_cell():
    cell, peer = LayerNormRNNCell(4, 6).double(), nn.RNNCell(4, 6, bias=False).double()
    cell.norm = nn.Identity()
    peer.load_state_dict({"weight_ih": cell.from_input.weight, "weight_hh": cell.from_state.weight})
    x, h = torch.randn(3, 4).double(), torch.randn(3, 6).double()
    torch.testing.assert_close(cell(x, h), peer(x, h))


def test_recurrent_cell_ignores_the_scale_of_its_summed_input():
    cell = LayerNormRNNCell(4, 6).double()
    x, h = torch.randn(3, 4).double(), torch.randn(3, 6).double()
    torch.testing.assert_close(cell(50 * x, 50 * h), cell(x, h), rtol=1e-4, atol=1e-4)


# weight re-scaled, re-centred, one row re-scaled, data re-scaled, re-centred, one sample re-scaled
PAPER_TABLE = {
    "batch norm": [True, False, True, True, True, False],
    "weight norm": [True, False, True, False, False, False],
    "layer norm": [True, True, False, True, False, True],
}


@pytest.mark.parametrize("name", PAPER_TABLE)
def test_invariances_are_those_of_the_papers_table(name):
    row = invariance_table(seed=3)[name]
    assert [deviation < 1e-6 for deviation in row.values()] == PAPER_TABLE[name]
    assert all(deviation < 1e-6 or deviation > 1e-2 for deviation in row.values())


def test_invariance_table_takes_other_normalisers_torch_agrees():
    row = invariance_table({"torch": lambda x, w: F.layer_norm(x @ w.T, (16,), eps=1e-12)})["torch"]
    assert [deviation < 1e-6 for deviation in row.values()] == PAPER_TABLE["layer norm"]


def copy_block_to_torch(block, peer):
    """Give torch's encoder layer the weights of our block (norms keep their start: gain 1, shift 0)."""
    mixer, mlp = block.attention.mixer, block.mlp.mixer
    with torch.no_grad():
        peer.self_attn.in_proj_weight.copy_(
            torch.cat([mixer.query.weight, mixer.key.weight, mixer.value.weight])
        )
        no_bias = torch.zeros_like(mixer.query.bias)  # of the keys: the softmax would cancel it
        peer.self_attn.in_proj_bias.copy_(torch.cat([mixer.query.bias, no_bias, mixer.value.bias]))
    peer.self_attn.out_proj.load_state_dict(mixer.out.state_dict())
    peer.linear1.load_state_dict(mlp[0].state_dict())
    peer.linear2.load_state_dict(mlp[2].state_dict())


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_pre_and_post_blocks_equal_torch_encoder_layers_with_the_same_weights(norm):
    block = TransformerBlock(8, 2, norm=norm).double()
    peer = nn.TransformerEncoderLayer(
        8,
        2,
        32,
        dropout=0.0,
        activation="gelu",
        batch_first=True,
        norm_first=norm == "pre",
        dtype=torch.float64,
    )
    copy_block_to_torch(block, peer)
    x = torch.randn(3, 5, 8).double()
    torch.testing.assert_close(values_and_gradients(block, x), values_and_gradients(peer, x))


def test_peri_is_pre_around_a_sublayer_followed_by_a_norm():
    linear, x = nn.Linear(6, 6), torch.randn(4, 6)
    peri = ResidualSublayer(linear, 6, norm="peri")
    pre = ResidualSublayer(nn.Sequential(linear, LayerNorm(6)), 6, norm="pre")
    torch.testing.assert_close(peri(x), pre(x))


class Zero(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x)


def test_with_a_zero_sublayer_pre_peri_and_none_are_the_identity_and_post_is_the_norm():
    x = torch.randn(4, 6)
    for norm in ("none", "pre", "peri"):
        torch.testing.assert_close(ResidualSublayer(Zero(), 6, norm=norm)(x), x)
    torch.testing.assert_close(ResidualSublayer(Zero(), 6, norm="post")(x), F.layer_norm(x, (6,)))


def test_block_without_norm_is_the_block_whose_norms_are_replaced_by_identities():
    block, bare = TransformerBlock(8, 2, norm="pre"), TransformerBlock(8, 2, norm="none")
    block.attention.norm_in = block.mlp.norm_in = nn.Identity()
    bare.load_state_dict(block.state_dict())
    x = torch.randn(2, 5, 8)
    torch.testing.assert_close(block(x), bare(x))


def test_block_refuses_an_unknown_placement_and_an_ignored_mask():
    with pytest.raises(ValueError, match="'sandwich'"):
        TransformerBlock(8, 2, norm="sandwich")
    with pytest.raises(ValueError, match="ignored"):
        TransformerBlock(8, 2, mixer=nn.Identity(), causal=True)


def test_causal_block_never_looks_ahead():
    block, x = TransformerBlock(8, 2, causal=True), torch.randn(1, 6, 8)
    changed = x.clone()
    changed[:, 4:] += 1
    torch.testing.assert_close(block(x)[:, :4], block(changed)[:, :4])


def test_profiles_equal_a_closed_form_on_linear_blocks():
    blocks = [nn.Linear(3, 3, bias=False) for _ in range(3)]
    for block in blocks:
        nn.init.eye_(block.weight)
        block.weight.data *= 2
    x = torch.randn(2, 4, 3)
    start = x.square().mean().item()
    assert residual_variance_profile(blocks, x) == pytest.approx([start * 4**i for i in range(4)], rel=1e-5)
    # d/dW_l of the summed output: every factor but W_l is 2 I, so all three gradients have the same norm
    profile = gradient_norm_profile(blocks, x, torch.sum)
    closed = (x.sum((0, 1)) * 4).norm().item() * 3**0.5
    assert profile == pytest.approx([closed] * 3, rel=1e-4)
    assert all(p.grad is None for block in blocks for p in block.parameters())
    with pytest.raises(ValueError, match="single number"):
        gradient_norm_profile(blocks, x, lambda y: y)
    with pytest.raises(ValueError, match="parameters"):
        gradient_norm_profile([nn.Identity()], x, torch.sum)


@pytest.mark.parametrize("d", [2, 3, 17])
def test_layer_norm_is_projection_then_scaling(d):
    x = torch.randn(11, d).double()
    torch.testing.assert_close(scale_to_sqrt_d(project_out_ones(x)), F.layer_norm(x, (d,), eps=0.0))
    torch.testing.assert_close(
        scale_to_sqrt_d(project_out_ones(x), eps=1e-2), F.layer_norm(x, (d,), eps=1e-2)
    )


def test_projection_is_the_orthogonal_projector_and_scaling_gives_one_length():
    x, ones = torch.randn(11, 5).double(), torch.ones(5).double()
    projector = torch.eye(5).double() - torch.outer(ones, ones) / 5
    torch.testing.assert_close(project_out_ones(x), x @ projector)
    torch.testing.assert_close(scale_to_sqrt_d(x).norm(dim=-1), torch.full((11,), 5.0).double().sqrt())


@pytest.mark.parametrize("d", [2, 3])
def test_selectable_keys_are_the_vertices_of_the_convex_hull(d):
    keys = torch.randn(40, d, generator=torch.Generator().manual_seed(d)).double()
    vertices = set(ConvexHull(keys.numpy()).vertices.tolist())
    assert {i for i, hidden in enumerate(unselectable_keys(keys)) if not hidden} == vertices


def test_scaled_keys_are_all_selectable_each_by_itself():
    keys = scale_to_sqrt_d(torch.randn(30, 3, generator=torch.Generator().manual_seed(0)).double())
    assert not unselectable_keys(keys).any()
    assert torch.equal((keys @ keys.T).argmax(-1), torch.arange(30))  # Cauchy-Schwarz


def test_unselectable_keys_refuses_keys_that_are_not_finite():
    with pytest.raises(ValueError, match="finite"):
        unselectable_keys(torch.tensor([[float("nan"), 0.0]]))
