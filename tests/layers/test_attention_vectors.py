"""Attention layers against values of the authors' released code, see :mod:`tests.vectors`."""

import pytest
import torch
from einops import rearrange
from torch.nn import functional as F

from course_lib.layers.attention import (
    AllAttentionBlock,
    DualAttention,
    Hopfield,
    HopfieldLookup,
    HopfieldPooling,
    LabelAttention,
    MultiHeadAttention,
    MultiQueryAttention,
    SymbolicAttention,
)
from tests.vectors import fill, vector


def test_multi_query_attention_is_the_one_of_mesh_tensorflow():
    """There the scores are not divided by the root of the head's width: the queries start smaller instead."""
    stored = vector("multi-query-attention", "one-write-head")
    theirs = stored.weights()
    weights = {
        "query.weight": 2**0.5 * rearrange(theirs["q"], "d h e -> (h e) d"),
        "key.weight": theirs["k"].T,
        "value.weight": theirs["v"].T,
        "out.weight": rearrange(theirs["o"], "h e d -> d (h e)"),
    }
    layer = MultiQueryAttention(6, 3, bias=False)
    fill(layer, weights, {name: name for name in weights})
    stored.check(layer(*stored.given()))


CORE = "association_core."


def hopfield_weights(stored, core=CORE):
    """Our query, key and output matrices; their value and output matrix follow each other, ours are one."""
    theirs = stored.weights()
    bias = dict(zip("qkv", theirs[core + "in_proj_bias"].chunk(3), strict=True))
    out, value = theirs[core + "out_proj.weight"], theirs[core + "v_proj_weight"]
    return {
        "query.weight": theirs[core + "q_proj_weight"],
        "query.bias": bias["q"],
        "key.weight": theirs[core + "k_proj_weight"],
        "key.bias": bias["k"],
        "out.weight": out @ value,
        "out.bias": out @ bias["v"] + theirs[core + "out_proj.bias"],
    }


def test_hopfield_is_the_authors_with_connected_values():
    stored = vector("modern-hopfield", "association")
    layer, weights = Hopfield(6, 1, steps=3), hopfield_weights(stored)
    fill(layer, weights, {name: name for name in weights})
    stored.check(layer(*stored.given()))


def test_with_two_heads_the_authors_values_mix_the_memories_of_both():
    stored = vector("modern-hopfield", "association-two-heads")
    layer, weights = Hopfield(6, 2, steps=3), hopfield_weights(stored)
    fill(layer, weights, {name: name for name in weights})
    states, patterns = stored.given()
    ours, found = layer(states, patterns, return_weights=True)
    theirs = stored.weights()
    value, bias = theirs[CORE + "v_proj_weight"], theirs[CORE + "in_proj_bias"].chunk(3)[2]
    mixed = rearrange(F.linear(layer.key(patterns), value, bias), "b s (h e) -> b h s e", h=2)
    read = rearrange(found @ mixed, "b h t e -> b t (h e)")
    expected = F.linear(read, theirs[CORE + "out_proj.weight"], theirs[CORE + "out_proj.bias"])
    stored.check(expected)
    assert (ours - expected).abs().max() > 0.01


def test_the_authors_hopfield_by_default_is_multi_head_attention_behind_norms():
    stored = vector("modern-hopfield", "association-default")
    theirs = stored.weights()
    parts = dict(zip(("query", "key", "value"), theirs[CORE + "in_proj_weight"].chunk(3), strict=True))
    weights = {f"{name}.weight": part for name, part in parts.items()}
    weights["query.bias"], _, weights["value.bias"] = theirs[CORE + "in_proj_bias"].chunk(3)
    weights["out.weight"], weights["out.bias"] = (theirs[f"{CORE}out_proj.{p}"] for p in ("weight", "bias"))
    layer = MultiHeadAttention(6, 2)
    fill(layer, weights, {name: name for name in weights})
    states, patterns = stored.given()
    normed = {
        name: F.layer_norm(x, (6,), theirs[f"norm_{name}.weight"], theirs[f"norm_{name}.bias"])
        for name, x in (
            ("state_pattern", states),
            ("stored_pattern", patterns),
            ("pattern_projection", patterns),
        )
    }
    q, k, _ = layer.project(normed["state_pattern"], normed["stored_pattern"])
    _, _, v = layer.project(normed["state_pattern"], normed["pattern_projection"])
    heads, _ = layer.attend(q, k, v, mask=None, return_weights=False)
    stored.check(layer.out(heads.transpose(1, 2).flatten(2)))


def test_pooling_is_the_authors_whose_states_are_projected():
    stored = vector("modern-hopfield", "pooling")
    weights = hopfield_weights(stored, f"hopfield.{CORE}")
    states = stored.weights()["pooling_weights"]
    weights["states"] = F.linear(states, weights.pop("query.weight"), weights.pop("query.bias"))
    layer = HopfieldPooling(6, 1, num_states=3, steps=2)
    fill(layer, weights, {name: name for name in weights})
    stored.check(layer(*stored.given()).flatten(1))


def test_lookup_is_the_authors_whose_memory_is_projected_twice():
    stored = vector("modern-hopfield", "lookup")
    theirs, core = stored.weights(), f"hopfield.{CORE}"
    matrices, biases = (theirs[f"{core}in_proj_{part}"].chunk(3) for part in ("weight", "bias"))
    memory = [F.linear(theirs["lookup_weights"][0], matrices[i], biases[i]) for i in (1, 2)]
    weights = {
        "query.weight": matrices[0],
        "query.bias": biases[0],
        "patterns": rearrange(memory[0], "n (h e) -> h n e", h=2),
        "values": rearrange(memory[1], "n (h e) -> h n e", h=2),
        "out.weight": theirs[core + "out_proj.weight"],
        "out.bias": theirs[core + "out_proj.bias"],
    }
    layer = HopfieldLookup(6, 2, 7, steps=2)
    fill(layer, weights, {name: name for name in weights})
    stored.check(layer(*stored.given()))


def test_all_attention_block_is_the_authors_behind_a_mask_that_hides_the_token_itself():
    """Their window: four tokens back and not the own one; the distances count from the far end."""
    stored = vector("all-attention-persistent-memory", "block")
    new, cached, table = stored.given()
    theirs = stored.weights()
    names = {"query": "proj_query", "key": "proj_key", "value": "proj_val", "out": "proj_out"}
    weights = {f"attention.{ours}.weight": theirs[f"attn.{name}.weight"] for ours, name in names.items()}
    weights["attention.slot_keys"] = theirs["attn.attn.persistent_memory.key"].mT
    weights["attention.slot_values"] = theirs["attn.attn.persistent_memory.val"]
    weights["attention.positions"] = F.pad(table[0].flip(-1).mT, (0, 0, 1, 2))  # distances 1 to 4, of 0 to 6
    weights |= {f"norm_sum.{p}": theirs[f"norm1.{p}"] for p in ("weight", "bias")}
    block = AllAttentionBlock(6, 2, 3, num_positions=7, causal=True)
    fill(block, weights, {name: name for name in weights})
    back = torch.arange(7)[:, None] - torch.arange(7)
    y = block(torch.cat([cached, new], dim=1), mask=(back >= 1) & (back <= 4))
    stored.check(y[:, 4:])


def label_attention(theirs):
    layer = LabelAttention(6, 3, 5, head_dim=4)
    weights = {
        "query": theirs["w_qs"],
        "key.weight": rearrange(theirs["w_ks"], "l d e -> (l e) d"),
        "value.weight": rearrange(theirs["w_vs"], "l d e -> (l e) d"),
        "out.weight": theirs["proj.weight"],
        "reduce.weight": theirs["reduce_proj.weight"],
        "norm.weight": theirs["layer_norm.a_2"],
        "norm.bias": theirs["layer_norm.b_2"],
    }
    fill(layer, weights, lambda name: name)
    return layer


def test_label_attention_is_the_authors_but_for_the_norm():
    stored = vector("label-attention-layer", "layer")
    theirs = stored.weights()
    layer, sentence = label_attention(theirs), stored.given()[0]
    kept = []
    layer.reduce.register_forward_hook(lambda module, given, y: kept.append(y[0].transpose(0, 1)))
    ours, weights = layer(sentence[None], return_weights=True)
    reduced = kept[0]  # (tokens, l, p)
    deviation = reduced.std(-1, keepdim=True)  # unbiased, unlike torch's layer norm
    norm = (reduced - reduced.mean(-1, keepdim=True)) / (deviation + 1e-3)
    output = (theirs["layer_norm.a_2"] * norm + theirs["layer_norm.b_2"]).flatten(1)
    stored.check(output, reduced, weights[0, :, None])
    assert 0.01 < (ours[0] - output).abs().max() < 0.1


def test_the_authors_give_a_head_another_query_with_the_place_of_the_sentence_in_the_batch():
    """Their queries lie sentence by sentence, their keys label by label: head l of sentence b, of B, asks
    with the query of label (l B + b) mod L."""
    stored = vector("label-attention-layer", "two-sentences")
    layer, rows = label_attention(stored.weights()), {}
    for b, sentence in enumerate(stored.given()[0].split([5, 3])):
        keys = rearrange(layer.key(sentence), "s (l e) -> l s e", l=3)
        for label in range(3):
            scores = keys[label] @ layer.query[(2 * label + b) % 3] / 6**0.5
            rows[label, b] = F.pad(scores.softmax(-1), (0, 5 - len(sentence)))
    stored.check(torch.stack([rows[label, b] for label in range(3) for b in range(2)])[:, None])


@pytest.mark.parametrize(
    ("name", "symmetric", "causal"), [("dual", False, True), ("dual-symmetric", True, False)]
)
def test_dual_attention_is_the_authors(name, symmetric, causal):
    stored = vector("dual-attention-transformer", name)
    x, symbols = stored.given()

    class Given(torch.nn.Module):
        def forward(self, x):
            return symbols

    layer = DualAttention(8, 1, 3, symbols=Given(), num_relations=2, symmetric=symmetric, causal=causal)
    names = {
        "sensory.query": "self_attention.wq",
        "sensory.key": "self_attention.wk",
        "sensory.value": "self_attention.wv",
        "sensory.out": "self_attention.wo",
        "relational.query": "relational_attention.wq_attn",
        "relational.key": "relational_attention.wk_attn",
        "relational.value": "relational_attention.wv",
        "relational.relation_query": "relational_attention.wq_rel",
        "relational.relation_key": f"relational_attention.{'wq' if symmetric else 'wk'}_rel",
        "relational.out": "relational_attention.wo",
    }
    weights = {f"{ours}.weight": stored.weights()[f"{theirs}.weight"] for ours, theirs in names.items()}
    weights["relational.weight_r"] = stored.weights()["relational_attention.wr"].mT
    fill(layer, weights, lambda ours: ours)
    stored.check(layer(x), layer.relational.relations(x).movedim(1, -1))


def test_symbolic_attention_is_the_authors():
    stored = vector("dual-attention-transformer", "symbols")
    theirs = stored.weights()
    weights = {f"query.{p}": theirs[f"q_proj.{p}"] for p in ("weight", "bias")}
    weights["templates"] = rearrange(theirs["template_features"], "n (h e) -> h n e", h=2)
    weights["symbols"] = rearrange(theirs["symbol_library"], "n (h e) -> h n e", h=2)
    layer = SymbolicAttention(6, 2, 7)
    fill(layer, weights, lambda ours: ours)
    stored.check(layer(*stored.given()))
