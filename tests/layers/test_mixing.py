"""Token mixers and their frame, against timm, torch, einops and brute force."""

import pytest
import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from course_lib.data import load
from course_lib.experiments.layers.mixing._shared import LEAST_SQUARES, LEAST_SQUARES_FEW
from course_lib.layers.mixing import (
    GridMixer,
    MetaFormerBlock,
    MixerBlock,
    MLPMixer,
    PoolFormer,
    PoolMixer,
    RaftMLPBlock,
    RaftTokenMixer,
    RandomMixer,
    TokenMLP,
    pool_minus_input_naive,
    raft_rearrange,
    raft_restore,
    reach_map,
)
from course_lib.layers.norm import TransformerBlock
from course_lib.training.validation import linear_accuracy
from tests import peers
from tests.oracles import values_and_gradients

SHAPES = [(1, 1, 1, 1), (2, 3, 5, 7), (1, 4, 2, 3), (3, 2, 8, 8)]


def timm(name):
    """One of timm's model files."""
    import importlib

    peers.timm_layers()
    return importlib.import_module(f"timm.models.{name}")


def copy_in_order(ours, peer):
    """Give the peer our parameters, in the order in which both list them, reshaped where needed."""
    mine, theirs = list(ours.parameters()), list(peer.parameters())
    assert [p.numel() for p in mine] == [p.numel() for p in theirs]
    with torch.no_grad():
        for p, q in zip(mine, theirs, strict=True):
            nn.init.normal_(p, std=0.5)
            q.copy_(p.reshape(q.shape))


# -- MetaFormer ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_pool_mixer_equals_timm_and_the_equation_in_value_and_gradient(shape, kernel_size):
    x = torch.randn(shape, dtype=torch.float64)
    for data in (x, x + 1e4, torch.full_like(x, 3.0)):
        expected = values_and_gradients(timm("metaformer").Pooling(kernel_size), data)
        for ours in (PoolMixer(kernel_size=kernel_size), lambda x: pool_minus_input_naive(x, kernel_size)):
            torch.testing.assert_close(values_and_gradients(ours, data), expected, rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="odd"):
        PoolMixer(kernel_size=4)


def test_pool_mixer_is_a_fixed_depthwise_convolution_away_from_the_border():
    x = torch.randn(2, 3, 7, 9, dtype=torch.float64)
    kernel = torch.full((3, 1, 3, 3), 1 / 9, dtype=torch.float64)
    kernel[:, :, 1, 1] -= 1
    torch.testing.assert_close(PoolMixer()(x)[..., 1:-1, 1:-1], F.conv2d(x, kernel, groups=3))


def test_pool_mixer_drops_a_constant_so_the_shift_of_the_norm_before_it_has_no_effect():
    x, block = torch.randn(2, 4, 5, 6), MetaFormerBlock(4, PoolMixer())
    before = block(x)
    nn.init.normal_(block.mix_tokens.norm_in.bias)
    torch.testing.assert_close(block(x), before)


@pytest.mark.parametrize("scale", [None, 0.3])
def test_metaformer_block_equals_timms_with_the_same_weights(scale):
    peer = (
        timm("metaformer")
        .MetaFormerBlock(
            5,
            token_mixer=timm("metaformer").Pooling,
            mlp_act=nn.GELU,
            mlp_bias=True,
            norm_layer=lambda dim, **_: nn.GroupNorm(1, dim),
            layer_scale_init_value=scale,
        )
        .double()
    )
    ours = MetaFormerBlock(5, PoolMixer(), layer_scale=scale).double()
    copies = {"mix_tokens.norm_in": "norm1", "mix_channels.norm_in": "norm2"}
    mlp = "mix_channels.mixer" if scale is None else "mix_channels.mixer.0"
    copies |= {f"{mlp}.0": "mlp.fc1", f"{mlp}.2": "mlp.fc2"}
    if scale is not None:
        copies |= {"mix_tokens.mixer.1": "layer_scale1", "mix_channels.mixer.1": "layer_scale2"}
    copied = 0
    for mine, theirs in copies.items():
        for p, q in zip(
            ours.get_submodule(mine).parameters(), peer.get_submodule(theirs).parameters(), strict=True
        ):
            nn.init.normal_(p)
            q.data.copy_(p.reshape(q.shape))
            copied += p.numel()
    assert copied == sum(p.numel() for p in ours.parameters())
    x = torch.randn(2, 5, 3, 7, dtype=torch.float64)
    torch.testing.assert_close(values_and_gradients(ours, x), values_and_gradients(peer, x))


def test_a_layer_scale_of_zero_leaves_the_identity():
    x = torch.randn(2, 4, 3, 5)
    torch.testing.assert_close(MetaFormerBlock(4, PoolMixer(), layer_scale=0.0)(x), x)
    with pytest.raises(ValueError, match=r"\(b, 4, i, j\)"):
        MetaFormerBlock(4, PoolMixer())(torch.randn(2, 5, 3, 3))


def test_with_the_identity_as_mixer_no_token_sees_another():
    block = TransformerBlock(4, 1, mixer=nn.Identity()).double()
    x = torch.randn(1, 5, 4, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(block, x)[0, :, :, 0]  # (t, d, s, d)
    for t in range(5):
        for s in range(5):
            assert (jacobian[t, :, s].abs().sum() > 0) == (t == s)


def test_grid_mixer_lays_the_tokens_out_row_by_row():
    mixer, x = nn.Conv2d(4, 4, 3, padding=1).double(), torch.randn(2, 15, 4, dtype=torch.float64)
    expected = rearrange(mixer(rearrange(x, "b (i j) c -> b c i j", i=3)), "b c i j -> b (i j) c")
    torch.testing.assert_close(GridMixer(mixer, grid=(3, 5))(x), expected)
    with pytest.raises(ValueError, match="3 x 5"):
        GridMixer(mixer, grid=(3, 5))(x[:, :14])


def test_random_mixer_averages_with_positive_weights_and_is_never_trained():
    mixer, x = RandomMixer(7), torch.randn(2, 7, 3)
    torch.testing.assert_close(mixer(x), torch.einsum("ts,bsd->btd", mixer.matrix, x))
    torch.testing.assert_close(mixer.matrix.sum(1), torch.ones(7))
    assert (mixer.matrix.amax(1) / mixer.matrix.amin(1)).max() < torch.e
    assert not list(mixer.parameters())
    assert "matrix" in mixer.state_dict()


def test_poolformer_halves_the_map_between_stages_and_ignores_the_order_of_its_global_mean():
    model = PoolFormer(2, 3, dims=(4, 6), depth=(1, 2), stem=(3, 1))
    maps = []
    for layer in model.stages:
        layer.register_forward_hook(lambda module, inputs, output: maps.append(tuple(output.shape[1:])))
    y = model(torch.randn(2, 2, 8, 6))
    assert y.shape == (2, 3)
    assert maps == [(4, 8, 6), (4, 8, 6), (6, 4, 3), (6, 4, 3), (6, 4, 3)]
    flipped = PoolFormer(1, 3, dims=(4,), depth=(2,), stem=(1, 1))
    x = torch.randn(2, 1, 5, 5)
    torch.testing.assert_close(flipped(x.flip(-1)), flipped(x))  # average pooling has no handedness
    with pytest.raises(ValueError, match=r"PoolFormer: depth must have 1 entries, got \(1, 1\)"):
        PoolFormer(1, 3, dims=(4,), depth=(1, 1))


# -- MLP-Mixer -------------------------------------------------------------------------------------


def test_mixer_block_equals_timms_with_the_same_weights():
    peer = timm("mlp_mixer").MixerBlock(6, 5, mlp_ratio=(7 / 6, 11 / 6), norm_layer=nn.LayerNorm).double()
    ours = MixerBlock(5, 6, token_hidden_dim=7, hidden_dim=11).double()
    copy_in_order(ours, peer)
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(values_and_gradients(ours, x), values_and_gradients(peer, x))


def test_without_its_gelu_token_mixing_is_one_kronecker_product():
    mixer, x = TokenMLP(5, 7).double(), torch.randn(2, 5, 3, dtype=torch.float64)
    first, second = mixer.mlp[0], mixer.mlp[2]
    mixer.mlp[1] = nn.Identity()
    nn.init.zeros_(first.bias)
    nn.init.zeros_(second.bias)
    matrix = torch.kron(second.weight @ first.weight, torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(mixer(x), (x.flatten(1) @ matrix.T).unflatten(1, (5, 3)))


def test_all_channels_share_the_token_matrices():
    mixer, x = TokenMLP(5, 7).double(), torch.randn(2, 5, 3, dtype=torch.float64)
    by_channel = torch.stack([mixer.mlp(x[..., c]) for c in range(3)], dim=-1)
    torch.testing.assert_close(mixer(x), by_channel)
    with pytest.raises(ValueError, match="5 x 1"):
        mixer(x[:, :4])


def test_mixer_with_zero_output_matrices_is_the_identity():
    block, x = MixerBlock(5, 4, token_hidden_dim=7, hidden_dim=6), torch.randn(2, 5, 4)
    for last in (block.attention.mixer.mlp[2], block.mlp.mixer[2]):
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    torch.testing.assert_close(block(x), x)


def test_permuting_the_patches_is_permuting_two_matrices():
    model = MLPMixer(1, 3, image_size=(4, 6), patch=2, dim=5).double()
    x = torch.randn(2, 1, 4, 6, dtype=torch.float64)
    order = torch.randperm(6)
    patches = rearrange(x, "b c (i p) (j q) -> b (i j) c p q", p=2, q=2)[:, order]
    shuffled = rearrange(patches, "b (i j) c p q -> b c (i p) (j q)", i=2)
    expected = model(x)
    for block in model.blocks:
        mlp = block.attention.mixer.mlp
        mlp[0].weight.data = mlp[0].weight[:, order]
        mlp[2].weight.data, mlp[2].bias.data = mlp[2].weight[order], mlp[2].bias[order]
    torch.testing.assert_close(model(shuffled), expected)


def test_the_last_bias_of_a_token_mlp_has_no_effect_in_the_whole_mixer():
    model, x = (
        MLPMixer(1, 3, image_size=(4, 6), patch=2, dim=5).double(),
        torch.randn(2, 1, 4, 6, dtype=torch.float64),
    )
    before = model(x)
    for block in model.blocks:
        nn.init.normal_(block.attention.mixer.mlp[2].bias)
    torch.testing.assert_close(model(x), before)
    with pytest.raises(ValueError, match=r"expects x \(b, 1, 4, 6\)"):
        model(torch.randn(2, 1, 6, 6).double())
    with pytest.raises(ValueError, match="patch=2 does not divide image_size=5"):
        MLPMixer(1, 3, image_size=(5, 6), patch=2, dim=5)


# -- RaftMLP ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (5, 4)])
@pytest.mark.parametrize("raft", [1, 2, 3])
@pytest.mark.parametrize("axis", ["vertical", "horizontal"])
def test_rafts_hold_what_a_loop_over_every_index_puts_there(grid, raft, axis):
    (h, w), others = grid, 2
    x = torch.arange(float(h * w * raft * others)).reshape(1, h * w, raft * others)
    z = raft_rearrange(x, grid=grid, raft=raft, axis=axis)
    for i in range(h):
        for j in range(w):
            for r in range(raft):
                for o in range(others):
                    row, place = (o * w + j, r * h + i) if axis == "vertical" else (o * h + i, r * w + j)
                    assert z[0, row, place] == x[0, i * w + j, r * others + o]
    assert torch.equal(raft_restore(z, grid=grid, raft=raft, axis=axis), x)


def test_linear_rafts_of_one_multiply_every_channel_from_the_left_and_from_the_right():
    steps = [
        RaftTokenMixer(2, grid=(3, 4), axis=axis, raft=1).double() for axis in ("vertical", "horizontal")
    ]
    for step in steps:
        step.mlp[1] = nn.Identity()
        nn.init.zeros_(step.mlp[0].bias)
        nn.init.zeros_(step.mlp[2].bias)
    left, right = (step.mlp[2].weight @ step.mlp[0].weight for step in steps)
    x = torch.randn(2, 12, 2, dtype=torch.float64)
    image = rearrange(x, "b (h w) c -> b c h w", h=3)
    expected = rearrange(left @ image @ right.T, "b c h w -> b (h w) c")
    y = steps[1](steps[0](x))
    torch.testing.assert_close(y, expected)
    flat = torch.kron(left, right) @ x  # one matrix over all tokens
    torch.testing.assert_close(y, flat)


@pytest.mark.parametrize(("h", "w", "raft", "expansion"), [(8, 8, 2, 2), (3, 5, 1, 4), (1, 7, 3, 2)])
def test_raft_weights_are_as_many_as_the_formula_says(h, w, raft, expansion):
    steps = [
        RaftTokenMixer(6, grid=(h, w), axis=axis, raft=raft, expansion=expansion)
        for axis in ("vertical", "horizontal")
    ]
    weights = sum(p.numel() for step in steps for p in step.parameters() if p.ndim == 2)
    assert weights == 2 * expansion * ((raft * h) ** 2 + (raft * w) ** 2)


def test_a_raft_block_reaches_every_token_in_value_and_its_gradients_are_right():
    block = RaftMLPBlock(4, grid=(4, 3)).double()

    def on_images(x):
        return rearrange(block(rearrange(x, "b c i j -> b (i j) c")), "b (i j) c -> b c i j", i=4)

    assert (reach_map(on_images, torch.randn(1, 4, 4, 3, dtype=torch.float64)) > 0).all()
    x = torch.randn(1, 12, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(block, x)


def test_raft_mixers_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="raft=2 does not divide dim=5"):
        RaftTokenMixer(5, grid=(2, 3), axis="vertical")
    with pytest.raises(ValueError, match="diagonal"):
        RaftTokenMixer(4, grid=(2, 3), axis="diagonal")
    with pytest.raises(ValueError, match="2 x 3"):
        RaftMLPBlock(4, grid=(2, 3))(torch.randn(1, 7, 4))


# -- What a network must beat ----------------------------------------------------------------------


def test_least_squares_on_pixels_has_the_accuracy_that_the_experiments_compare_with():
    digits = load("digits")
    train, test = tuple(digits.train), tuple(digits.test)
    assert linear_accuracy(train, test) == pytest.approx(LEAST_SQUARES)
    assert linear_accuracy(tuple(digits.train[:150]), test) == pytest.approx(LEAST_SQUARES_FEW)
    order = torch.randperm(64)
    moved = [(x.flatten(1)[:, order], y) for x, y in (train, test)]
    assert linear_accuracy(*moved) == pytest.approx(LEAST_SQUARES)  # it has no grid
