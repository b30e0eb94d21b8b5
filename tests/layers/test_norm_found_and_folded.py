"""EvoNorm, RepBN, simplified linear attention and attention entropy, against timm, torch and closed forms."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_lib.layers.norm import (
    EvoNormB0,
    EvoNormS0,
    LayerNorm,
    NormActivationGraph,
    ProgressiveRepBN,
    RepBN,
    SimplifiedLinearAttention,
    entropic_overload_fraction,
    fold_rep_bn,
    headwise_entropy,
    random_norm_activation_graph,
    reject_layer,
    simplified_linear_attention_naive,
)
from tests.peers import timm_layers


def randomise(module):
    """Random parameters, so that no comparison rests on gain one and shift zero."""
    generator = torch.Generator().manual_seed(0)
    for p in module.parameters():
        p.data = torch.randn(p.shape, generator=generator, dtype=p.dtype)


def test_evonorm_s0_equals_timm_in_value_and_gradient():
    ours, peer = (
        EvoNormS0(6, group_size=2).double(),
        timm_layers().EvoNorm2dS0(6, group_size=2, eps=1e-5).double(),
    )
    randomise(ours)
    peer.load_state_dict(ours.state_dict())
    for x in (torch.randn(3, 6, 5, 7).double(), torch.randn(1, 6, 3, 2).double() + 10):
        x.requires_grad_()
        expected = peer(x)  # timm takes its statistics in float32
        torch.testing.assert_close(ours(x), expected, rtol=1e-4, atol=1e-4)
        gradients = [torch.autograd.grad(y.square().sum(), x) for y in (ours(x), expected)]
        torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3)


def test_evonorm_b0_equals_timm_in_training_and_evaluation_but_keeps_the_biased_variance():
    ours, peer = EvoNormB0(6).double(), timm_layers().EvoNorm2dB0(6, eps=1e-5).double()
    randomise(ours)
    peer.load_state_dict(ours.state_dict(), strict=False)
    kept = torch.ones(6).double()
    for _ in range(3):
        x = 2 * torch.randn(3, 6, 5, 7).double() + 1
        torch.testing.assert_close(
            ours(x), peer(x), rtol=1e-5, atol=1e-5
        )  # timm takes its statistics in float32
        kept = 0.9 * kept + 0.1 * x.var((0, 2, 3), correction=0)
    torch.testing.assert_close(ours.running_var, kept)
    assert (peer.running_var - kept).min() > 1e-3  # timm keeps the unbiased one, as torch's batch norm does
    peer.running_var.copy_(kept)
    torch.testing.assert_close(ours.eval()(x), peer.eval()(x), rtol=1e-5, atol=1e-5)


def test_evonorm_s0_with_a_steep_gate_is_relu_over_the_group_deviation():
    norm, x = EvoNormS0(4, group_size=4).double(), torch.randn(2, 4, 5, 3).double()
    nn.init.constant_(norm.v, 1e6)
    std = (x.var((1, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(norm(x), x.relu() / std, rtol=1e-6, atol=1e-6)


def test_evonorm_b0_without_gate_divides_by_the_larger_of_two_deviations():
    norm, x = EvoNormB0(4).double(), torch.randn(2, 4, 5, 3).double()
    nn.init.zeros_(norm.v)
    batch = (x.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    instance = (x.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(norm(x), x / torch.maximum(batch, instance))


def test_evonorms_reject_wrong_channels_groups_and_ranks():
    with pytest.raises(ValueError, match="divide"):
        EvoNormS0(6, group_size=4)
    for norm in (EvoNormB0(4), EvoNormS0(4, group_size=2)):
        with pytest.raises(ValueError, match=r"expects x \(b, 4, i, j\)"):
            norm(torch.randn(2, 5, 3, 3))
        assert norm(torch.randn(0, 4, 3, 3)).shape == (0, 4, 3, 3)


def test_evonorm_s0_written_as_a_graph_of_primitives_equals_the_layer():
    # nodes: 4 sigmoid(v0 x), 5 x * that, 6 variance over c,i,j, 7 its root, 8 the quotient
    nodes = [("sigmoid", 2, 2), ("mul", 0, 4), ("variance over c,i,j", 0, 0), ("sqrt", 6, 6), ("div", 5, 7)]
    graph, x = NormActivationGraph(4, nodes), torch.randn(2, 4, 5, 3)
    torch.testing.assert_close(graph(x), EvoNormS0(4, group_size=4, eps=0.0)(x))


def test_graph_refuses_unknown_primitives_and_nodes_that_read_the_future():
    with pytest.raises(ValueError, match="unknown primitive"):
        NormActivationGraph(4, [("cube", 0, 1)])
    with pytest.raises(ValueError, match="node 4"):
        NormActivationGraph(4, [("add", 0, 4)])


def test_random_graphs_are_valid_reproducible_and_use_every_primitive():
    def draw(seed):
        return random_norm_activation_graph(num_nodes=10, generator=torch.Generator().manual_seed(seed))

    assert draw(5) == draw(5)
    seen = set()
    for seed in range(60):
        nodes = draw(seed)
        NormActivationGraph(2, nodes)(torch.randn(2, 2, 3, 3))
        assert all(first != second for _, first, second in nodes)
        seen |= {primitive for primitive, _, _ in nodes}
    assert len(seen) == 18


def test_reject_layer_names_the_test_that_failed_and_keeps_a_sound_layer():
    x, y = torch.randn(16, 3), torch.randint(3, (16,))

    def anchor(layer):
        return nn.Sequential(nn.Linear(3, 3), layer(3))

    class Explosive(nn.Module):
        def forward(self, x):
            return torch.exp(x.square())

    def loss(model):
        return F.cross_entropy(model(x), y)

    keep = {"anchors": [anchor], "loss": loss, "min_score": 0.5}
    assert reject_layer(lambda c: nn.Identity(), score=lambda model: 1.0, **keep) is None
    assert reject_layer(lambda c: nn.Identity(), score=lambda model: 0.4, **keep) == "quality"
    assert reject_layer(lambda c: nn.Identity(), score=lambda model: math.nan, **keep) == "quality"
    assert reject_layer(lambda c: Explosive(), score=lambda model: 1.0, **keep) == "stability"


def trained_norm(norm):
    """A norm with random parameters that has seen a few batches."""
    randomise(norm)
    for _ in range(5):
        norm(3 * torch.randn(8, 7, 6).double() + 1)
    return norm.eval()


@pytest.mark.parametrize("bias", [True, False])
def test_folded_linear_layer_equals_norm_then_linear(bias):
    for norm in (RepBN(6).double(), ProgressiveRepBN(6, decay_steps=3).double()):
        trained_norm(norm)
        linear, x = nn.Linear(6, 4, bias=bias).double(), torch.randn(5, 7, 6).double()
        folded = fold_rep_bn(norm, linear)
        torch.testing.assert_close(folded(x), linear(norm(x)))
        assert not any(isinstance(m, RepBN) for m in folded.modules())
    with pytest.raises(ValueError, match="6 wide"):
        fold_rep_bn(norm, nn.Linear(5, 4))


def test_rep_bn_without_its_input_share_is_torch_batch_norm():
    norm, peer, x = RepBN(6), nn.BatchNorm1d(6), torch.randn(9, 6)
    nn.init.zeros_(norm.eta)
    torch.testing.assert_close(norm(x), peer(x))
    torch.testing.assert_close(norm.eval()(x), peer.eval()(x))


def test_progressive_norm_goes_from_layer_norm_to_rep_bn_in_equal_steps():
    norm, x = ProgressiveRepBN(6, decay_steps=4, warmup_steps=2).double(), torch.randn(8, 6).double()
    blends = []
    for _ in range(8):
        blends.append(norm.blend)
        y = norm(x)
        expected = blends[-1] * LayerNorm(6).double()(x) + (1 - blends[-1]) * RepBN(6).double()(x)
        torch.testing.assert_close(y, expected)
        norm.advance()
    assert blends == [1, 1, 1, 0.75, 0.5, 0.25, 0, 0]


def test_progressive_norm_ignores_the_blend_in_evaluation_and_keeps_its_step_in_the_state():
    norm = ProgressiveRepBN(6, decay_steps=4)
    norm(torch.randn(8, 6))
    norm.advance()
    x = torch.randn(3, 6)
    torch.testing.assert_close(norm.eval()(x), norm.rep_bn(x))
    other = ProgressiveRepBN(6, decay_steps=4)
    other.load_state_dict(norm.state_dict())
    assert other.blend == norm.blend == 0.75
    with pytest.raises(ValueError, match="decay_steps"):
        ProgressiveRepBN(6, decay_steps=0)


@pytest.mark.parametrize("t", [1, 3, 13, 64])
def test_linear_order_equals_the_quadratic_kernel_form_in_value_and_gradient(t):
    layer = SimplifiedLinearAttention(8, 2, grid=(1, t)).double()
    q, k, v = (torch.randn(2, 2, t, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    expected = simplified_linear_attention_naive(q, k, v)
    torch.testing.assert_close(layer.attend(q, k, v), expected)
    grads = torch.autograd.grad(layer.attend(q, k, v).square().sum(), (q, k, v))
    torch.testing.assert_close(grads, torch.autograd.grad(expected.square().sum(), (q, k, v)))


def test_kernel_rows_sum_to_one_and_the_quadratic_form_equals_a_loop():
    q, k = torch.rand(1, 1, 5, 3).double(), torch.rand(1, 1, 5, 3).double()
    ones = simplified_linear_attention_naive(q, k, torch.ones(1, 1, 5, 1).double())
    torch.testing.assert_close(ones, torch.ones_like(ones), rtol=1e-5, atol=1e-5)
    v = torch.randn(1, 1, 5, 2).double()
    out = simplified_linear_attention_naive(q, k, v)[0, 0]
    for i in range(5):
        scores = torch.stack([q[0, 0, i] @ k[0, 0, j] for j in range(5)])
        torch.testing.assert_close(out[i], (scores[:, None] * v[0, 0]).sum(0) / (scores.sum() + 1e-6))


def test_local_term_is_a_depthwise_convolution_of_the_values_on_the_grid():
    layer = SimplifiedLinearAttention(4, 2, grid=(3, 5))
    nn.init.zeros_(layer.qkv.weight[:4])  # no queries: the kernel term vanishes
    nn.init.zeros_(layer.qkv.bias[:4])
    x = torch.randn(2, 15, 4)
    v = F.linear(x, layer.qkv.weight[8:], layer.qkv.bias[8:]).mT.reshape(2, 4, 3, 5)
    filters, shifts = layer.local.weight.repeat(2, 1, 1, 1), layer.local.bias.repeat(2)  # each head the same
    expected = layer.out(F.conv2d(v, filters, shifts, padding=2, groups=4).flatten(2).mT)
    torch.testing.assert_close(layer(x), expected)
    with pytest.raises(ValueError, match=r"expects x \(b, 15, 4\), got shape \(2, 14, 4\)"):
        layer(x[:, :14])


def test_entropy_is_one_for_uniform_zero_for_one_hot_and_equals_torch_categorical():
    uniform, one_hot = torch.full((2, 1, 5, 7), 1 / 7), torch.zeros(2, 1, 5, 7)
    one_hot[..., 3] = 1
    soft = torch.randn(2, 1, 5, 7).softmax(-1)
    entropy = headwise_entropy(torch.cat([uniform, one_hot, soft], dim=1))
    reference = torch.distributions.Categorical(probs=soft).entropy().mean() / math.log(7)
    torch.testing.assert_close(entropy, torch.stack([torch.tensor(1.0), torch.tensor(0.0), reference]))


def test_causal_entropy_divides_each_row_by_its_own_number_of_keys():
    weights = torch.tril(torch.ones(6, 6)) / torch.arange(1, 7)[:, None]
    torch.testing.assert_close(headwise_entropy(weights.expand(2, 3, 6, 6), causal=True), torch.ones(3))
    assert headwise_entropy(weights.expand(2, 3, 6, 6)).max() < 0.8


def test_entropy_refuses_scores_and_rows_of_a_single_key():
    with pytest.raises(ValueError, match="softmax"):
        headwise_entropy(torch.randn(1, 1, 3, 3))
    with pytest.raises(ValueError, match="two keys"):
        headwise_entropy(torch.ones(1, 1, 3, 1))


def test_overload_fraction_counts_heads_above_the_threshold():
    entropy = torch.tensor([[0.95, 0.1], [0.91, 0.89]])
    assert entropic_overload_fraction(entropy) == 0.5
    assert entropic_overload_fraction(entropy, threshold=0.0) == 1.0
    with pytest.raises(ValueError, match="relative"):
        entropic_overload_fraction(torch.tensor([2.0]))
