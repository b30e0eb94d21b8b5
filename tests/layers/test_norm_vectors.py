"""Norms against values of the authors' released code; where each comes from stands in ``tests/vectors``."""

import math

import pytest
import torch
from torch import nn

from course_lib.experiments.layers.norm import GEOMETRY, LearnedLeakyReLU, MajorityModel
from course_lib.layers.norm import (
    EvoNormB0,
    EvoNormS0,
    LayerNorm,
    ProgressiveRepBN,
    RepBN,
    SimplifiedLinearAttention,
    TransformerBlock,
    headwise_entropy,
    layer_norm,
    layer_norm_naive,
    project_out_ones,
    scale_to_sqrt_d,
    unselectable_keys,
)
from tests.vectors import fill, vector

REP_BN = {
    "eta": "alpha",
    "bn.norm.weight": "bn.weight",
    "bn.norm.bias": "bn.bias",
    "bn.norm.running_mean": "bn.running_mean",
    "bn.norm.running_var": "bn.running_var",
}
PROGRESSIVE = {
    "layer_norm.weight": "norm1.weight",
    "layer_norm.bias": "norm1.bias",
    **{f"rep_bn.{ours}": f"norm2.{theirs}" for ours, theirs in REP_BN.items()},
}


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_rep_bn_equals_the_authors(mode):
    theirs, ours = vector("slab-prepbn", f"RepBN {mode}"), RepBN(5)
    fill(ours, theirs.weights(), REP_BN)
    theirs.check(ours.train(mode == "train")(*theirs.given()))


def progressive(theirs, **steps):
    """Ours with the authors' numbers; the step is no weight and stays."""
    ours = ProgressiveRepBN(5, **steps)
    step = {"step": ours.step.double()}
    fill(ours, {**theirs.weights(), **step}, {**PROGRESSIVE, "step": "step"})
    return ours


def test_progressive_norm_half_way_equals_the_authors():
    theirs = vector("slab-prepbn", "LinearNorm train, half way")
    ours = progressive(theirs, decay_steps=4)
    ours.advance(2)
    theirs.check(ours(*theirs.given()))


def test_progressive_norm_in_evaluation_equals_the_authors():
    theirs = vector("slab-prepbn", "LinearNorm eval")
    theirs.check(progressive(theirs, decay_steps=4).eval()(*theirs.given()))


def test_progressive_norm_in_its_warm_up_equals_the_authors_but_for_the_running_averages():
    theirs = vector("slab-prepbn", "LinearNorm train, warm-up")
    ours = progressive(theirs, decay_steps=4, warmup_steps=3)
    torch.testing.assert_close(ours(*theirs.given()), theirs.output["output"], rtol=1e-6, atol=1e-6)
    bn, weights = ours.rep_bn.bn.norm, theirs.weights()
    for name in ("running_mean", "running_var"):  # theirs see no data before the blend begins
        torch.testing.assert_close(theirs.output[name], weights[f"norm2.bn.{name}"], rtol=1e-6, atol=1e-6)
        assert (getattr(bn, name) - theirs.output[name]).abs().max() > 1e-3


def test_simplified_linear_attention_equals_the_authors():
    theirs, ours = vector("slab-prepbn", "Attention"), SimplifiedLinearAttention(8, 2, grid=(3, 3))
    names = {"position": "positional_encoding"}
    for part, there in (("qkv", "qkv"), ("local", "dwc"), ("out", "proj")):
        names |= {f"{part}.{kind}": f"{there}.{kind}" for kind in ("weight", "bias")}
    fill(ours, theirs.weights(), names)
    theirs.check(ours(*theirs.given()))


EVONORM = {"weight": "gamma", "bias": "beta", "v": "v"}


def test_evonorm_b0_in_training_equals_the_authors_and_keeps_the_same_variance():
    theirs, ours = vector("evonorm", "B0 train"), EvoNormB0(6)
    fill(ours, theirs.weights(), {**EVONORM, "running_var": "running_var"})
    output = ours(*theirs.given())
    theirs.check(output, ours.running_var[:, None, None][None])


def test_evonorm_b0_in_evaluation_equals_the_authors():
    theirs, ours = vector("evonorm", "B0 eval"), EvoNormB0(6).eval()
    fill(ours, theirs.weights(), {**EVONORM, "running_var": "running_var"})
    theirs.check(ours(*theirs.given()))


@pytest.mark.parametrize(
    ("name", "group_size"), [("S0", 2), ("S0 narrow", 1)], ids=["3 groups", "32 groups of 6 channels"]
)
def test_evonorm_s0_equals_the_authors_also_where_32_groups_become_single_channels(name, group_size):
    theirs, ours = vector("evonorm", name), EvoNormS0(6, group_size=group_size)
    fill(ours, theirs.weights(), EVONORM)
    theirs.check(ours(*theirs.given()))


PIECES = {
    "both": lambda x: scale_to_sqrt_d(project_out_ones(x)),
    "projection": project_out_ones,
    "scaling": scale_to_sqrt_d,
}


@pytest.mark.parametrize("name", PIECES)
def test_projection_and_scaling_equal_the_authors(name):
    theirs = vector("layernorm-expressivity", name)
    theirs.check(PIECES[name](*theirs.given()))


def test_layer_norm_equals_the_authors_two_pieces_with_gain_and_bias():
    theirs, ours = vector("layernorm-expressivity", "both, with gain and bias"), LayerNorm(6, eps=0.0)
    fill(ours, theirs.weights(), {"weight": "gain", "bias": "bias"})
    theirs.check(ours(*theirs.given()))


def shorter(x):
    """The authors' norm without projection: of length 1 / root d, where the whole norm has root d."""
    return scale_to_sqrt_d(x) / x.shape[-1]


def test_the_authors_norm_without_projection_is_d_times_shorter_than_ours():
    theirs = vector("layernorm-expressivity", "LayerNormWithoutProj")
    theirs.check(shorter(*theirs.given()))


def test_unselectable_keys_are_those_that_the_authors_program_calls_bounded():
    theirs = vector("layernorm-expressivity", "unselectable")
    points, lengths = theirs.given()
    theirs.check(unselectable_keys((points * (1 + 0.5 * lengths)) ** 3))


@pytest.mark.parametrize(
    ("name", "normalise"),
    [("WITH_PROJ", PIECES["both"]), ("WITHOUT_PROJ", shorter), ("NONE", GEOMETRY["none"])],
)
def test_the_majority_model_and_what_multiplies_its_keys_equal_the_authors(name, normalise):
    theirs, ours = vector("layernorm-expressivity", f"Model {name}"), MajorityModel(5, 6, normalise)
    weights = theirs.weights()
    weights["query"], weights["key"], weights["value"] = weights[
        "transformer.self_attn.in_proj_weight"
    ].chunk(3)
    names = {"embedding.weight": "emb_layer.weight"}
    names |= {f"{kind}.weight": kind for kind in ("query", "key", "value")}
    there = {"out": "self_attn.out_proj", "mlp_norm": "norm2", "mlp.0": "linear1", "mlp.2": "linear2"}
    names |= {f"{a}.{k}": f"transformer.{b}.{k}" for a, b in there.items() for k in ("weight", "bias")}
    ours.mlp_norm.eps = 0.0  # torch's fused norm refuses none, theirs has none
    fill(ours, weights, names)
    tokens = torch.tensor([[0, 1, 2, 3, 4, 4], [2, 2, 1, 0, 3, 1]])
    theirs.check(ours(tokens), ours.directions(tokens))


@pytest.mark.parametrize("ours", [layer_norm, layer_norm_naive], ids=["fused", "naive"])
def test_layer_norm_equals_the_authors(ours):
    theirs = vector("layer-normalization", "ln")
    x, shift, gain = theirs.given()
    theirs.check(ours(x, gain, shift))


@pytest.mark.parametrize(
    ("name", "norm", "activation"),
    [
        ("free, relu", "none", nn.ReLU),
        ("free, learnable_lrelu", "none", LearnedLeakyReLU),
        ("ln, gelu", "pre", nn.GELU),
    ],
)
def test_blocks_with_and_without_norms_equal_the_authors(name, norm, activation):
    theirs = vector("relu-revival", f"block {name}")
    ours = TransformerBlock(8, 2, norm=norm, activation=activation, hidden_dim=16, causal=True)
    weights = {}
    for key, value in theirs.weights().items():
        weights[key] = value.T if value.ndim == 2 else value  # their matrices stand on the right
    for kind in ("weight", "bias"):
        weights[f"query.{kind}"], weights[f"key.{kind}"] = weights[f"attn.qk_attn.{kind}"].chunk(2)
    if "mlp.act.slopes" in weights:
        weights["slope"] = weights["mlp.act.slopes"][1:]  # of the second layer
    there = {
        "attention.mixer.query": "query",
        "attention.mixer.key": "key",
        "attention.mixer.value": "attn.v_attn",
        "attention.mixer.out": "attn.c_proj",
        "attention.norm_in": "ln_1",
        "mlp.norm_in": "ln_2",
        "mlp.mixer.0": "mlp.c_fc",
        "mlp.mixer.2": "mlp.c_proj",
    }
    names = {f"{a}.{kind}": f"{b}.{kind}" for a, b in there.items() for kind in ("weight", "bias")}
    fill(ours, weights, {**names, "mlp.mixer.1.slope": "slope"})
    theirs.check(ours(*theirs.given()))


def test_entropy_is_the_one_the_authors_log_as_a_share_of_the_largest():
    logged = vector("relu-revival", "entropy").output  # in nats, all queries and heads alike
    ours = headwise_entropy(logged["weights"]).mean() * math.log(logged["weights"].shape[-1])
    torch.testing.assert_close(ours, logged["entropy"][0], rtol=1e-6, atol=1e-6)
