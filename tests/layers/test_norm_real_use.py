"""Norms in real use: bad arguments, half precision, compile, checkpoints, meta, tracing, other libraries."""

import copy

import jaxtyping
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from course_lib.layers.norm import (
    BatchNorm,
    EvoNormB0,
    EvoNormS0,
    LayerNorm,
    LayerNormRNNCell,
    NormActivationGraph,
    ProgressiveRepBN,
    RepBN,
    ResidualSublayer,
    RMSNorm,
    SimplifiedLinearAttention,
    advance_rep_bn_,
    fold_rep_bn,
    headwise_entropy,
    layer_norm,
    random_norm_activation_graph,
    rms_norm,
    unselectable_keys,
)
from tests.peers import timm_layers


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: LayerNormRNNCell(3, 4)(torch.zeros(2, 3), torch.zeros(2, 5)), ValueError, "of state"),
        (lambda: RepBN(4)(torch.zeros(1, 4)), ValueError, "single sample"),
        (
            lambda: ProgressiveRepBN(4, decay_steps=1).advance(-1),
            ValueError,
            "ProgressiveRepBN.advance: steps",
        ),
        (lambda: advance_rep_bn_(nn.ReLU(), -1), ValueError, "advance_rep_bn_: steps"),
        (lambda: fold_rep_bn(RepBN(4), nn.Conv2d(4, 4, 1)), TypeError, "torch.nn.Linear, got Conv2d"),
        (lambda: NormActivationGraph(0, []), ValueError, "NormActivationGraph: channels"),
        (lambda: NormActivationGraph(2, "add"), TypeError, "NormActivationGraph: nodes"),
        (lambda: NormActivationGraph(2, [("add", 0)]), ValueError, r"nodes\[0\] must have 3 entries"),
        (lambda: NormActivationGraph(2, [("add", 0, 1.5)]), TypeError, "second must be an integer"),
        (lambda: NormActivationGraph(2, [])(torch.zeros(1, 3, 2, 2)), ValueError, r"x \(b, 2, i, j\)"),
        (
            lambda: random_norm_activation_graph(num_nodes=0, generator=torch.Generator()),
            ValueError,
            "num_nodes",
        ),
        (lambda: headwise_entropy(torch.tensor([[[[1.5, -0.5]]]])), ValueError, "negative"),
        (lambda: headwise_entropy(torch.full((1, 1, 2, 2), torch.nan)), ValueError, "softmax"),
        (lambda: unselectable_keys(torch.full((2, 2), torch.inf)), ValueError, "unselectable_keys"),
    ],
)
def test_what_the_docstrings_promise_to_refuse(call, error, words, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(error, match=words):
        call()


def test_a_residual_sublayer_builds_its_norms_for_the_device_and_leaves_the_mixer():
    layer = ResidualSublayer(nn.Linear(4, 4), 4, norm="peri", device="meta", dtype=torch.float16)
    assert {(p.device.type, p.dtype) for p in layer.mixer.parameters()} == {("cpu", torch.float32)}
    norms = [*layer.norm_in.parameters(), *layer.norm_out.parameters()]
    assert [(p.device.type, p.dtype) for p in norms] == [("meta", torch.float16)] * 4


# -- Precision -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [1, 100, 1000])
@pytest.mark.parametrize(
    "layer",
    [LayerNorm(8), RMSNorm(8), BatchNorm(8), EvoNormB0(8), EvoNormS0(8, group_size=2)],
    ids=lambda layer: type(layer).__name__,
)
def test_half_precision_is_near_double_at_any_size_beside_float32_and_in_half_parameters(layer, size, dtype):
    x = (size * torch.randn(6, 8, 8, 8)).to(dtype)
    for module in (copy.deepcopy(layer), copy.deepcopy(layer).to(dtype)):
        exact = copy.deepcopy(layer).double()(x.double())
        y = module(x)
        assert y.dtype == dtype
        assert (y.double() - exact).norm() / exact.norm() < 0.01


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_linear_attention_over_many_tokens_stays_in_the_range_of_half_precision(dtype):
    layer, x = SimplifiedLinearAttention(64, 4, grid=(32, 32)), 10 * torch.randn(1, 1024, 64)
    exact = layer(x)
    with torch.autocast("cpu", dtype=dtype):
        under_autocast = layer(x)
    for y in (under_autocast, copy.deepcopy(layer).to(dtype)(x.to(dtype))):
        assert (y.float() - exact).norm() / exact.norm() < 0.02


@pytest.mark.parametrize("norm", [EvoNormB0(4), EvoNormS0(4, group_size=2)], ids=lambda n: type(n).__name__)
def test_evonorm_trains_behind_a_convolution_under_autocast(norm):
    net, x = nn.Sequential(nn.Conv2d(3, 4, 3), norm), torch.randn(2, 3, 8, 8)
    exact = copy.deepcopy(net)(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = net(x)
    y.float().sum().backward()
    torch.testing.assert_close(y.float(), exact, rtol=0.05, atol=0.05)
    assert all(p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.filterwarnings("error")
def test_rms_norm_of_two_types_is_that_of_the_wider_one_without_a_warning():
    x, gain = 300 * torch.randn(5, 8).half(), torch.rand(8)
    torch.testing.assert_close(rms_norm(x, gain), rms_norm(x.float(), gain).half(), rtol=0, atol=0)


def test_a_norm_of_float32_refuses_double_and_one_of_double_takes_it():
    with pytest.raises(TypeError, match=r"LayerNorm\(4, .*convert it: x\.float\(\)"):
        LayerNorm(4)(torch.zeros(2, 4).double())
    assert LayerNorm(4, dtype=torch.float64)(torch.zeros(2, 4).double()).dtype == torch.float64


def test_entropy_has_the_gradient_of_its_formula_and_none_at_zero_weights():
    scores = torch.randn(2, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    hidden = torch.ones(5, 5, dtype=torch.bool).triu(1)
    (got,) = torch.autograd.grad(
        headwise_entropy(scores.masked_fill(hidden, -torch.inf).softmax(-1), causal=True).sum(), scores
    )
    log_weights = scores.masked_fill(hidden, -1e9).log_softmax(-1)  # finite: no zero times infinity
    entropy = -(log_weights.exp() * log_weights).sum(-1)[..., 1:] / torch.arange(2.0, 6.0).double().log()
    (expected,) = torch.autograd.grad(entropy.mean((0, 2)).sum(), scores)
    torch.testing.assert_close(got, expected)


def test_entropy_takes_the_rounded_rows_of_half_precision():
    weights = torch.randn(2, 3, 64, 64).softmax(-1)
    rounded = headwise_entropy(weights.bfloat16())
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, headwise_entropy(weights), rtol=0.01, atol=0.01)


# -- State ---------------------------------------------------------------------------------------------


def gradients(run, layer, x, weight):
    x = x.clone().requires_grad_()
    (run(layer, x) * weight).sum().backward()
    return [x.grad, *(p.grad for p in layer.parameters())]


RUNS = {
    "checkpoint": lambda layer, x: checkpoint(layer, x, use_reentrant=False),
    "reentrant": lambda layer, x: checkpoint(layer, x, use_reentrant=True),
    "compile": lambda layer, x: torch.compile(layer, backend="aot_eager_decomp_partition")(x),
}


@pytest.mark.filterwarnings("ignore:.*script_method.*:DeprecationWarning")  # torch's compiler warns of torch
@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("step", [0, 1, 3, 4])
def test_progressive_norm_has_the_same_gradients_compiled_and_recomputed(run, step, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    torch._dynamo.reset()
    norm = ProgressiveRepBN(6, decay_steps=4).double()
    norm.advance(step)
    eager, x, weight = copy.deepcopy(norm), torch.randn(8, 6).double(), torch.randn(8, 6).double()
    got, expected = gradients(run, norm, x, weight), gradients(lambda layer, x: layer(x), eager, x, weight)
    torch.testing.assert_close(got, expected)
    assert norm.blend == eager.blend == 1 - step / 4  # a forward pass is no step


def test_every_progressive_norm_of_a_network_advances():
    model = nn.Sequential(
        ProgressiveRepBN(6, decay_steps=4), nn.Sequential(ProgressiveRepBN(6, decay_steps=8))
    )
    advance_rep_bn_(model, 2)
    assert (model[0].blend, model[1][0].blend) == (0.5, 0.75)


# -- Other libraries -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
def test_torchs_layer_norm_and_ours_load_each_others_state(bias):
    ours, peer = LayerNorm(6, 1e-3, bias=bias), nn.LayerNorm(6, 1e-3, bias=bias)
    for parameter in peer.parameters():
        nn.init.normal_(parameter)
    ours.load_state_dict(peer.state_dict())
    x = torch.randn(4, 6)
    assert torch.equal(ours(x), peer(x))
    nn.LayerNorm(6, bias=bias).load_state_dict(ours.state_dict())


@pytest.mark.parametrize("norm", [LayerNorm, RMSNorm])
def test_timm_builds_a_transformer_with_our_norm(norm):
    timm_layers()
    from timm.models.vision_transformer import VisionTransformer

    small = {"img_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2, "num_classes": 3}
    model = VisionTransformer(**small, norm_layer=norm)
    assert any(isinstance(module, norm) for module in model.modules())
    assert model(torch.randn(2, 3, 8, 8)).shape == (2, 3)


def test_sync_batch_norm_conversion_finds_every_batch_norm_of_torch():
    model = nn.Sequential(BatchNorm(6), RepBN(6), ProgressiveRepBN(6, decay_steps=3), EvoNormB0(6))
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(model)).eval()
    found = [name for name, module in converted.named_modules() if isinstance(module, nn.SyncBatchNorm)]
    assert found == ["0.norm", "1.bn.norm", "2.rep_bn.bn.norm"]
    x = torch.randn(4, 5, 6)
    torch.testing.assert_close(converted[:3](x), model[:3].eval()(x))
    assert "convert_sync_batchnorm" in EvoNormB0.__doc__


def test_layer_norm_of_any_trailing_width_agrees_with_torch_in_half():
    x = (50 * torch.randn(3, 7)).half()
    torch.testing.assert_close(layer_norm(x), F.layer_norm(x, (7,)))
