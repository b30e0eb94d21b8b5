"""Options of the norms at their ends: one row, no affine part, one head or key, thresholds met exactly."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_lib.layers.norm import (
    BatchNorm,
    EvoNormB0,
    EvoNormS0,
    LayerNorm,
    NormActivationGraph,
    ProgressiveRepBN,
    RepBN,
    RMSNorm,
    SimplifiedLinearAttention,
    TransformerBlock,
    batch_norm_naive,
    entropic_overload_fraction,
    fold_rep_bn,
    gradient_norm_profile,
    headwise_entropy,
    random_norm_activation_graph,
    reject_layer,
    unselectable_keys,
)


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_in_evaluation_batch_norm_takes_any_number_of_rows(rows):
    norm = BatchNorm(3)
    norm.norm.running_mean.fill_(1)
    x = torch.randn(rows, 3)
    torch.testing.assert_close(norm.eval()(x), (x - 1) / (1 + 1e-5) ** 0.5)


@pytest.mark.parametrize("norm", [BatchNorm, EvoNormB0])
@pytest.mark.parametrize("momentum", [0.0, 0.25, 1.0])
def test_momentum_from_zero_to_one_weighs_the_newest_batch(norm, momentum):
    layer, x = norm(3, momentum=momentum), torch.randn(4, 3, 5, 2)
    layer(x if norm is EvoNormB0 else x.movedim(1, -1))
    kept = layer.running_var if norm is EvoNormB0 else layer.norm.running_var
    correction = 0 if norm is EvoNormB0 else 1
    torch.testing.assert_close(kept, 1 - momentum + momentum * x.var((0, 2, 3), correction=correction))
    for outside in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="momentum"):
            norm(3, momentum=outside)


@pytest.mark.parametrize(
    ("layer", "names"),
    [
        (LayerNorm(4), ["weight", "bias"]),
        (LayerNorm(4, bias=False), ["weight"]),
        (LayerNorm(4, elementwise_affine=False), []),
        (LayerNorm(4, elementwise_affine=False, bias=True), []),
        (RMSNorm(4), ["weight"]),
        (RMSNorm(4, elementwise_affine=False), []),
    ],
)
def test_what_a_norm_learns_and_where_it_starts(layer, names):
    assert [name for name, _ in layer.named_parameters()] == names
    x = torch.randn(5, 4)
    peer = F.rms_norm if isinstance(layer, RMSNorm) else F.layer_norm
    torch.testing.assert_close(layer(x), peer(x, (4,), eps=1e-5))


@pytest.mark.parametrize("eps", [1e-3, 0.5])
@pytest.mark.parametrize("norm", [LayerNorm, RMSNorm, BatchNorm, EvoNormB0, EvoNormS0])
def test_eps_reaches_the_root(norm, eps):
    options = {"group_size": 2} if norm is EvoNormS0 else {}
    shape = (3, 2, 3, 3) if norm in (EvoNormB0, EvoNormS0) else (6, 2)
    x = torch.randn(shape).double()
    layer = norm(2, eps, **options).double()
    scaled = norm(2, 4 * eps, **options).double()
    for each in (layer, scaled):
        if hasattr(each, "v"):
            nn.init.zeros_(each.v)
    torch.testing.assert_close(scaled(2 * x), layer(x))


def test_default_eps_is_in_every_norm_as_in_torch():
    x, one, zero = torch.randn(6, 3) * 1e-3, torch.ones(3), torch.zeros(3)
    torch.testing.assert_close(batch_norm_naive(x, one, zero), F.batch_norm(x, None, None, training=True))
    torch.testing.assert_close(LayerNorm(3)(x), F.layer_norm(x, (3,)))


# -- Graphs of primitives ------------------------------------------------------------------------------------


def moments(axes):
    return {
        f"mean over {axes}": lambda x, d: x.mean(d, keepdim=True).expand_as(x),
        f"variance over {axes}": lambda x, d: x.var(d, correction=0, keepdim=True).expand_as(x),
    }


UNARY = {
    "neg": lambda x: -x,
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
    "tanh": lambda x: x.sinh() / x.cosh(),
    "exp": lambda x: math.e**x,
    "log": lambda x: torch.where(x > 0, x.abs().log(), -x.abs().log()),
    "sqrt": lambda x: torch.where(x > 0, 1, -1) * x.abs() ** 0.5,
    "square": lambda x: x * x,
    "abs": lambda x: x * x.sign(),
    **{name: lambda x, f=f: f(x, (0, 2, 3)) for name, f in moments("b,i,j").items()},
    **{name: lambda x, f=f: f(x, (2, 3)) for name, f in moments("i,j").items()},
    **{name: lambda x, f=f: f(x, (1, 2, 3)) for name, f in moments("c,i,j").items()},
}


@pytest.mark.parametrize("name", UNARY)
def test_a_primitive_of_one_argument_is_its_formula(name):
    x = torch.randn(3, 4, 5, 2)
    torch.testing.assert_close(NormActivationGraph(4, [(name, 0, 0)])(x), UNARY[name](x))


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("add", lambda a, b: a + b),
        ("mul", lambda a, b: a * b),
        ("max", lambda a, b: torch.where(a > b, a, b)),
        ("div", lambda a, b: a / b),
    ],
)
def test_a_primitive_of_two_arguments_reads_x_zero_and_two_learned_vectors(name, formula):
    graph, x = NormActivationGraph(4, [(name, 0, 3), (name, 2, 4)]), torch.randn(3, 4, 5, 2)
    with torch.no_grad():
        for i, p in enumerate((graph.v0, graph.v1, graph.weight, graph.bias), 2):
            p.copy_(torch.arange(1.0, 5.0) * i)
    v0, v1, weight, bias = (torch.arange(1.0, 5.0)[:, None, None] * i for i in (2, 3, 4, 5))
    expected = weight * formula(v0 * x, formula(x, v1.expand_as(x))) + bias
    torch.testing.assert_close(graph(x), expected)
    assert NormActivationGraph(4, [(name, 1, 0)])(x).shape == x.shape
    torch.testing.assert_close(NormActivationGraph(4, [("add", 1, 0)])(x), x)


def test_a_graph_is_built_where_it_is_asked_for():
    graph = NormActivationGraph(4, [], device="meta", dtype=torch.float16)
    assert {(p.device.type, p.dtype) for p in graph.parameters()} == {("meta", torch.float16)}
    assert NormActivationGraph(4, [("add", 0, 3)]).extra_repr() == "4, 4: add(0, 3)"
    assert NormActivationGraph(4, [("neg", 0, 3)]).extra_repr() == "4, 4: neg(0)"


def test_a_node_may_read_the_one_before_it():
    assert NormActivationGraph(1, [("neg", 3, 0), ("neg", 4, 0)])(torch.zeros(1, 1, 1, 1)).item() == 1
    with pytest.raises(ValueError, match="node 5"):
        NormActivationGraph(1, [("neg", 3, 0), ("add", 0, 5)])


def test_random_graphs_have_ten_nodes_each_of_which_may_read_all_before():
    nodes = random_norm_activation_graph(generator=torch.Generator().manual_seed(0))
    assert len(nodes) == 10
    read = set()
    for seed in range(100):
        drawn = random_norm_activation_graph(num_nodes=2, generator=torch.Generator().manual_seed(seed))
        read |= {(position, i) for position, node in enumerate(drawn, 4) for i in node[1:]}
    assert read == {(4, i) for i in range(4)} | {(5, i) for i in range(5)}


class Gain(nn.Module):
    """One weight, 1 at the start; the loss is its square, whose gradient is twice the weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.frozen = nn.Parameter(torch.ones(()), requires_grad=False)


def judged(calls=None, **options):
    def loss(model):
        if calls is not None:
            calls.append(model)
        return model.weight**2

    given = {"anchors": [lambda layer: Gain()], "score": lambda model: 0.5, "min_score": 0.5}
    return reject_layer(lambda channels: nn.Identity(), loss=loss, **{**given, **options})


def test_a_score_at_the_threshold_suffices_and_every_anchor_counts():
    assert judged() is None
    assert judged(min_score=0.51) == "quality"
    scores = iter([0.6, 0.4])
    two = [lambda layer: Gain(), lambda layer: Gain()]
    assert judged(anchors=two, score=lambda model: next(scores)) == "quality"


def test_the_ascent_takes_steps_of_a_tenth_and_keeps_the_worst_norm():
    # Adam's steps on a growing gradient are 0.1 and a little less: norms 2, 2.2, 2.4
    assert judged(ascent_steps=1, max_gradient_norm=2.0) is None
    assert judged(ascent_steps=1, max_gradient_norm=1.99) == "stability"
    assert judged(ascent_steps=2, max_gradient_norm=2.19) == "stability"
    assert judged(ascent_steps=2, max_gradient_norm=2.21) is None
    assert judged(ascent_steps=3, max_gradient_norm=2.39) == "stability"
    calls = []
    assert judged(calls) is None
    assert len(calls) == 20


# -- Attention without softmax -------------------------------------------------------------------------------


def test_warmup_keeps_layer_norm_then_the_blend_falls_in_equal_steps():
    norm = ProgressiveRepBN(4, decay_steps=2, warmup_steps=3)
    blends = []
    for _ in range(7):
        blends.append(norm.blend)
        norm.advance()
    assert blends == [1.0, 1.0, 1.0, 1.0, 0.5, 0.0, 0.0]
    norm.reset_parameters()
    assert norm.blend == 1.0
    norm.advance(0)
    assert norm.step == 0
    assert norm.step.dtype == torch.long
    assert ProgressiveRepBN(4, decay_steps=2, device="meta").step.is_meta


@pytest.mark.parametrize("norm", [RepBN(4), ProgressiveRepBN(4, decay_steps=1)])
def test_folding_works_without_a_bias_in_the_type_of_the_linear_layer_and_leaves_both_alone(norm):
    linear = nn.Linear(4, 3, bias=False, dtype=torch.float64)
    norm = norm.double()
    norm.train()(torch.randn(9, 4).double())
    before = {k: v.clone() for k, v in {**norm.state_dict(), **linear.state_dict()}.items()}
    folded, x = fold_rep_bn(norm, linear), torch.randn(5, 4).double()
    torch.testing.assert_close(folded(x), linear(norm.eval()(x)))
    assert {p.dtype for p in folded.parameters()} == {torch.float64}
    after = {**norm.state_dict(), **linear.state_dict()}
    assert all(torch.equal(before[k], after[k]) for k in before)
    with pytest.raises(ValueError, match="does not fold"):
        fold_rep_bn(norm, nn.Linear(3, 3))


def test_a_position_of_its_own_is_added_to_the_key_of_each_token():
    layer, x = SimplifiedLinearAttention(8, 2, grid=(2, 3)), torch.randn(1, 6, 8)
    with torch.no_grad():
        layer.position.copy_(torch.randn(6, 8))
        q, k, v = layer.qkv(x).chunk(3, -1)
        moved = (k + layer.position).unflatten(-1, (2, 4)).transpose(1, 2).relu()
        q, v = (z.unflatten(-1, (2, 4)).transpose(1, 2) for z in (q.relu(), v))
        scores = q @ moved.mT
        nn.init.zeros_(layer.local.weight)
        nn.init.zeros_(layer.local.bias)
        expected = layer.out((scores / (scores.sum(-1, keepdim=True) + 1e-6) @ v).transpose(1, 2).flatten(2))
        torch.testing.assert_close(layer(x), expected)


# -- Entropy and geometry ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entropies", "share"),
    [([0.5, 0.51], 0.5), ([-5e-5, 1.00005], 0.5), ([0.5], 0.0), ([[0.6, 0.7], [0, 1.0]], 0.75)],
)  # fmt: skip
def test_the_overload_is_strictly_above_the_threshold_and_rounding_is_no_fault(entropies, share):
    assert entropic_overload_fraction(torch.tensor(entropies), threshold=0.5) == share


@pytest.mark.parametrize("entropies", [[], [-2e-4, 0.5], [0.5, 1.0002]])
def test_no_heads_or_what_is_no_relative_entropy_is_refused(entropies):
    with pytest.raises(ValueError, match="relative entropies"):
        entropic_overload_fraction(torch.tensor(entropies))


def test_rows_may_miss_one_by_a_thousandth_and_not_by_two():
    uniform = torch.full((1, 1, 2, 2), 0.5)
    torch.testing.assert_close(headwise_entropy(uniform * 1.0009), torch.ones(1), atol=2e-3, rtol=0)
    for wrong in (1.002, 0.998):
        with pytest.raises(ValueError, match="softmax"):
            headwise_entropy(uniform * wrong)


def test_of_two_queries_and_three_keys_the_first_sees_two_under_the_mask():
    weights = torch.tensor([[0.5, 0.5, 0.0], [1 / 3, 1 / 3, 1 / 3]]).expand(1, 1, 2, 3)
    torch.testing.assert_close(headwise_entropy(weights, causal=True), torch.ones(1))
    alone = torch.tensor([[1.0, 0.0], [0.5, 0.5]]).expand(1, 1, 2, 2)
    torch.testing.assert_close(headwise_entropy(alone, causal=True), torch.ones(1))
    torch.testing.assert_close(headwise_entropy(alone), torch.tensor([0.5]))
    with pytest.raises(ValueError, match="two keys"):
        headwise_entropy(torch.ones(1, 1, 1, 1), causal=True)


@pytest.mark.parametrize(
    ("keys", "hidden"),
    [
        ([[1.0, 2.0]], [False]),  # alone
        ([[1.0], [1.0]], [True, True]),  # equal to another: never strictly ahead
        ([[0.0], [1.0], [2.0]], [False, True, False]),
        ([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]], [False, False, True]),  # on the edge
        ([[2.0, 0.0], [1.9, 0.1], [0.0, 2.0], [0.5, 0.5]], [False, True, False, False]),
        ([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [3.0, 3.0], [2.0, 2.5]], [False, False, False, False, False]),
        ([[0.0, 0.0], [5.0, 5.0], [2.0, 1.0]], [False, False, False]),  # wins only for a query of its own
    ],
)
def test_keys_that_no_query_selects(keys, hidden):
    assert unselectable_keys(torch.tensor(keys)).tolist() == hidden


def test_the_tolerance_decides_what_counts_as_ahead():
    keys = torch.tensor([[0.0], [1.0], [1.0 + 1e-3]]).double()
    assert unselectable_keys(keys).tolist() == [False, True, False]
    assert unselectable_keys(keys, tolerance=1e-2).tolist() == [False, True, True]


# -- Blocks --------------------------------------------------------------------------------------------------


def test_the_options_of_a_block_reach_its_parts():
    block = TransformerBlock(
        8, 2, norm="peri", norm_layer=RMSNorm, activation=nn.ReLU, hidden_dim=5, dtype=torch.float64
    )
    norms = [m for m in block.modules() if isinstance(m, (RMSNorm, LayerNorm))]
    assert [type(n) for n in norms] == [RMSNorm] * 4
    assert [type(m) for m in block.mlp.mixer] == [nn.Linear, nn.ReLU, nn.Linear]
    assert block.mlp.mixer[0].out_features == 5
    assert {p.dtype for p in block.parameters()} == {torch.float64}
    assert TransformerBlock(8, 2).mlp.mixer[0].out_features == 32
    mixer = nn.Linear(8, 8)
    assert TransformerBlock(8, 2, mixer=mixer).attention.mixer is mixer
    assert not TransformerBlock(8, 2, mixer=mixer).takes("cache")
    assert TransformerBlock(8, 2).takes("cache")


def test_what_is_frozen_has_no_part_in_the_gradient_norm():
    layer = nn.Linear(1, 1)
    nn.init.ones_(layer.weight)
    layer.bias.requires_grad_(False)
    assert gradient_norm_profile([layer], torch.full((1, 1, 1), 3.0), torch.sum) == [3.0]
    layer.bias.requires_grad_(True)
    [norm] = gradient_norm_profile([layer], torch.full((1, 1, 1), 3.0), lambda y: y.sum().reshape(1))
    assert norm == pytest.approx(10**0.5)
