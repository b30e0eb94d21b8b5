"""Norms against values of the authors' released code; where each comes from stands in ``tests/vectors``."""

import pytest
import torch

from course_lib.layers.norm import ProgressiveRepBN, RepBN, SimplifiedLinearAttention
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
