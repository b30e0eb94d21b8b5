"""Token mixers against values of the authors' released code (``tests/vectors``)."""

import pytest
import torch
from torch import nn

from course_lib.layers.mixing import (
    HighFrequencyMixer,
    InceptionMixer,
    LIFNeuron,
    LowFrequencyMixer,
    MaxPatchEmbed,
    MetaFormerBlock,
    MixerBlock,
    MixShiftBlock,
    MLPMixer,
    PerFrame,
    PoolFormer,
    PoolMixer,
    RaftMLPBlock,
    RandomMixer,
    SpikingDepthwise,
    SpikingMixerBlock,
    SpiralMixer,
    pool_minus_input_naive,
    raft_rearrange,
    spiral_offsets,
)
from tests.vectors import fill, vector


def renamed(names):
    """The name of a parameter there, from the names of the modules."""
    return lambda key: f"{names[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}"


# -- Max-Former ------------------------------------------------------------------------------------

MLP = {
    "mix_channels.1.layers.0": "mlp.fc1_conv",
    "mix_channels.1.layers.1": "mlp.fc1_bn",
    "mix_channels.3.layers.0": "mlp.fc2_conv",
    "mix_channels.3.layers.1": "mlp.fc2_bn",
}
BLOCKS = {
    "Block_Max eval": (lambda: PerFrame(nn.MaxPool2d(3, 1, 1)), MLP),
    "Block_Max train": (lambda: PerFrame(nn.MaxPool2d(3, 1, 1)), MLP),
    "Block_Avg eval": (lambda: PerFrame(nn.AvgPool2d(3, 1, 1, count_include_pad=False)), MLP),
    "Block_DWC3 eval": (
        lambda: SpikingDepthwise(2),
        {**MLP, "mix_tokens.mix.1.layers.0": "mixer.conv", "mix_tokens.mix.1.layers.1": "mixer.conv_bn"},
    ),
}


def without_biases(weights, names):
    """Their biases taken into the running means behind them: the same, and ours has none."""
    weights = dict(weights)
    theirs = list(names.values())
    for convolution, norm in zip(theirs[::2], theirs[1::2], strict=True):
        weights[f"{norm}.running_mean"] = weights[f"{norm}.running_mean"] - weights[f"{convolution}.bias"]
    return weights


@pytest.mark.parametrize("name", BLOCKS)
def test_spiking_blocks_equal_those_of_max_former(name):
    expected, (mixer, names) = vector("max-former", name), BLOCKS[name]
    ours = SpikingMixerBlock(2, mixer()).train(expected.mode == "train")
    fill(ours, without_biases(expected.weights(), names), renamed(names))
    (x,) = expected.given()  # time comes first there
    expected.check(ours(3 * x.transpose(0, 1)).transpose(0, 1))


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_patch_embedding_equals_that_of_max_former(mode):
    expected = vector("max-former", f"Embed_Max {mode}")
    ours = MaxPatchEmbed(2, 3).train(mode == "train")
    names = {
        "path.0.layers.0": "max_embed1.embed_conv",
        "path.0.layers.1": "max_embed1.embed_bn",
        "path.2.layers.0": "embed1.embed_conv",
        "path.2.layers.1": "embed1.embed_bn",
        "shortcut.layers.0": "max_embed2.embed_conv",
        "shortcut.layers.1": "max_embed2.embed_bn",
    }
    fill(ours, expected.weights(), renamed(names))
    (x,) = expected.given()
    expected.check(ours(3 * x.transpose(0, 1)).transpose(0, 1))


def test_spikes_and_surrogate_gradients_equal_those_of_the_neurons_of_max_former():
    expected = vector("max-former", "neuron")
    x, cotangent = expected.given()
    x = (3 * x.T).requires_grad_()  # (t, n) there, (n, t) here
    spikes = LIFNeuron()(x)
    (gradient,) = torch.autograd.grad((spikes * cotangent.T).sum(), x)
    expected.check(spikes.T, gradient.T)


# -- MetaFormer ------------------------------------------------------------------------------------


def test_the_pooling_mixer_equals_that_of_poolformer():
    expected = vector("metaformer", "Pooling")
    (x,) = expected.given()
    expected.check(PoolMixer()(x))
    expected.check(pool_minus_input_naive(x))


def poolformer_block(theirs, ours=""):
    """The names of one block, ours to theirs."""
    names = {
        "mix_tokens.norm_in": "norm1",
        "mix_channels.norm_in": "norm2",
        "mix_channels.mixer.0.0": "mlp.fc1",
        "mix_channels.mixer.0.2": "mlp.fc2",
    }
    return {f"{ours}{mine}": f"{theirs}{other}" for mine, other in names.items()}


def with_layer_scales(names, blocks):
    """A function of the key; the layer scales are no modules there."""
    scales = {
        f"{ours}{half}.mixer.1.weight": f"{theirs}layer_scale_{n}"
        for ours, theirs in blocks.items()
        for half, n in (("mix_tokens", 1), ("mix_channels", 2))
    }
    find = renamed(names)
    return lambda key: scales.get(key) or find(key)


def test_the_frame_with_its_layer_scales_equals_the_block_of_poolformer():
    expected = vector("metaformer", "PoolFormerBlock")
    ours = MetaFormerBlock(3, PoolMixer(), hidden_dim=6, layer_scale=1e-5)
    fill(ours, expected.weights(), with_layer_scales(poolformer_block(""), {"": ""}))
    expected.check(ours(*expected.given()))


def test_poolformer_with_its_default_stem_equals_poolformer():
    expected = vector("metaformer", "PoolFormer")
    ours = PoolFormer(3, 5, dims=(4, 6), depth=(1, 1))
    names = {"stages.0": "patch_embed.proj", "stages.2": "network.1.proj", "norm": "norm", "out": "head"}
    blocks = {"stages.1.": "network.0.0.", "stages.3.": "network.2.0."}
    for mine, theirs in blocks.items():
        names |= poolformer_block(theirs, mine)
    fill(ours, expected.weights(), with_layer_scales(names, blocks))
    expected.check(ours(*expected.given()))


def test_the_random_mixer_multiplies_the_tokens_by_its_matrix_from_the_left():
    expected = vector("metaformer", "RandomMixing")
    (x,) = expected.given()  # (b, i, j, c)
    ours = RandomMixer(6)
    fill(ours, expected.weights(), {"matrix": "random_matrix"})
    expected.check(ours(x.flatten(1, 2)).reshape(x.shape))


# -- MLP-Mixer -------------------------------------------------------------------------------------


def mixer_block(theirs, ours=""):
    """The names of one block, ours to theirs."""
    names = {
        "attention.norm_in": "LayerNorm_0",
        "attention.mixer.mlp.0": "token_mixing.Dense_0",
        "attention.mixer.mlp.2": "token_mixing.Dense_1",
        "mlp.norm_in": "LayerNorm_1",
        "mlp.mixer.0": "channel_mixing.Dense_0",
        "mlp.mixer.2": "channel_mixing.Dense_1",
    }
    return {f"{ours}{mine}": f"{theirs}{other}" for mine, other in names.items()}


def fill_as_flax(ours, weights, names):
    """Matrices are stored the other way round there, and their norms call the weight a scale."""
    turned = {key: w.T if key.endswith("kernel") and w.ndim == 2 else w for key, w in weights.items()}
    find = renamed(names)

    def flax(key):
        theirs = find(key)
        norm = "norm" in key.lower()
        return theirs.replace(".weight", ".scale" if norm else ".kernel")

    fill(ours, turned, flax)


def as_released(module):
    """The two constants that differ: their gelu has a tanh, their norms add 1e-6."""
    for part in module.modules():
        if isinstance(part, nn.GELU):
            part.approximate = "tanh"
        if hasattr(part, "eps"):
            part.eps = 1e-6
    return module


def test_mixer_block_equals_that_of_mlp_mixer():
    expected = vector("mlp-mixer", "MixerBlock")
    ours = MixerBlock(5, 6, token_hidden_dim=7, hidden_dim=11)
    fill_as_flax(ours, expected.weights(), mixer_block(""))
    (x,) = expected.given()
    expected.check(ours(x), tolerance=2e-3)  # the exact gelu
    expected.check(as_released(ours)(x))


def test_mlp_mixer_equals_mlp_mixer():
    expected = vector("mlp-mixer", "MlpMixer")
    ours = MLPMixer(2, 3, image_size=(4, 6), patch=2, dim=5, token_hidden_dim=7, hidden_dim=11)
    names = {"embed": "stem", "norm": "pre_head_layer_norm", "out": "head"}
    for n in range(2):
        names |= mixer_block(f"MixerBlock_{n}.", f"blocks.{n}.")
    weights = expected.weights()
    kernel = weights["stem.kernel"]  # (row, column, channel, out); ours reads channel, row, column
    weights["stem.kernel"] = kernel.permute(2, 0, 1, 3).flatten(0, 2)
    fill_as_flax(ours, weights, names)
    (x,) = expected.given()
    expected.check(as_released(ours)(x.movedim(-1, 1)))


# -- RaftMLP ---------------------------------------------------------------------------------------


def test_rafts_equal_those_of_raft_mlp():
    expected = vector("raft-mlp", "RaftShrink")
    (x,) = expected.given()
    expected.check(raft_rearrange(x, grid=(2, 3), raft=2, axis="vertical"))


def test_raft_block_equals_one_level_of_raft_mlp():
    expected = vector("raft-mlp", "SerialPermutedLevel")
    ours = RaftMLPBlock(4, grid=(3, 3))
    names = {}
    for mine, theirs in {"vertical": "fn.2.1", "horizontal": "fn.2.3"}.items():
        names |= {
            f"{mine}.norm_in": f"{theirs}.norm.1",
            f"{mine}.mixer.mlp.0": f"{theirs}.fn.0",
            f"{mine}.mixer.mlp.2": f"{theirs}.fn.3",
        }
    names |= {"mlp.norm_in": "fn.2.5.norm", "mlp.mixer.0": "fn.2.5.fn.0", "mlp.mixer.2": "fn.2.5.fn.3"}
    weights = expected.weights()
    for key in [key for key in weights if ".norm.1." in key]:  # raft by raft there, ours channel by channel
        weights[key] = weights[key].reshape(2, 2).T.flatten()
    linear = {key: weights[f"fn.1.{key}"] for key in ("weight", "bias")}  # their embedding of pixels
    fill(ours, weights, renamed(names))
    (x,) = expected.given()
    tokens = nn.functional.linear(x.flatten(2).mT, **linear)
    expected.check(ours(tokens).mT.reshape(x.shape))


# -- MS-MLP ----------------------------------------------------------------------------------------


def test_mix_shift_block_equals_that_of_ms_mlp():
    expected = vector("ms-mlp", "MixShiftBlock")
    ours = MixShiftBlock(10, hidden_dim=20)
    names = {"residual.mixer.1": "norm", "residual.mixer.2": "pwconv1", "residual.mixer.4": "pwconv2"}
    for g in range(5):
        names[f"residual.mixer.0.across.{g}"] = f"dwconv_lr.{g}"
        names[f"residual.mixer.0.down.{g}"] = f"dwconv_td.{g}"
    find = renamed(names)
    fill(ours, expected.weights(), lambda key: "gamma" if key == "residual.mixer.5.weight" else find(key))
    ours.residual.mixer[1].eps = 1e-6  # of their norm
    expected.check(ours(*expected.given()))


# -- SpiralMLP -------------------------------------------------------------------------------------


def test_a_spiral_that_reaches_seven_is_the_first_half_of_the_released_table():
    expected = vector("spiral-mlp", "gen_offset")
    offsets = spiral_offsets(64, reach=7, period=32, partitions=2)
    expected.check(offsets[:32])
    assert torch.equal(offsets[:32], offsets[32:])


def test_spiral_mixer_equals_that_of_spiral_mlp():
    expected = vector("spiral-mlp", "SpiralMLP")
    ours = SpiralMixer(8, reach=7, period=32)
    names = {
        "cross.linear": "fc_cross",
        "plain": "fc_self",
        "weigh.0": "reweight.fc1",
        "weigh.2": "reweight.fc2",
        "out": "proj",
    }
    weights = {**expected.weights(), "offsets": ours.cross.offsets}
    find = renamed(names)
    fill(ours, weights, lambda key: "offsets" if key.endswith("offsets") else find(key))
    (x,) = expected.given()  # (b, i, j, c)
    expected.check(ours(x.movedim(-1, 1)).movedim(1, -1))


# -- Inception -------------------------------------------------------------------------------------

HIGH = {"convolve.0": "conv1", "convolve.1": "proj1", "pool.1": "proj2"}


def split_projections(weights, prefix=""):
    """Their queries, keys and values are one matrix; ours are three, and keys have no bias."""
    parts = {}
    for kind in ("weight", "bias"):
        q, k, v = weights[f"{prefix}qkv.{kind}"].chunk(3)
        parts |= {f"{prefix}query.{kind}": q, f"{prefix}key.{kind}": k, f"{prefix}value.{kind}": v}
    return {**weights, **parts}


def test_the_high_branch_equals_that_of_iformer():
    expected = vector("inception-transformer", "HighMixer")
    ours = HighFrequencyMixer(4)
    fill(ours, expected.weights(), renamed(HIGH))
    expected.check(ours(*expected.given()))


def test_the_low_branch_equals_that_of_iformer():
    expected = vector("inception-transformer", "LowMixer")
    ours = LowFrequencyMixer(6, 2, kernel_size=2)
    names = {f"attention.{part}": part for part in ("query", "key", "value")}
    fill(ours, split_projections(expected.weights()), renamed(names))
    expected.check(ours(*expected.given()))


def test_inception_mixer_equals_that_of_iformer():
    expected = vector("inception-transformer", "Mixer")
    ours = InceptionMixer(10, 3, high_channels=4, kernel_size=2)
    names = {f"high.{mine}": f"high_mixer.{theirs}" for mine, theirs in HIGH.items()}
    names |= {f"low.attention.{part}": f"low_mixer.{part}" for part in ("query", "key", "value")}
    names |= {"smooth": "conv_fuse", "out": "proj"}
    fill(ours, split_projections(expected.weights(), "low_mixer."), renamed(names))
    (x,) = expected.given()  # (b, i, j, c)
    expected.check(ours(x.movedim(-1, 1)).movedim(1, -1))
