"""The squared hinge against sklearn and closed forms; inverted bottlenecks against timm and numpy."""

import numpy as np
import pytest
import torch
from scipy.special import erf
from sklearn.datasets import load_wine
from sklearn.svm import LinearSVC
from torch import nn

from course_lib.layers.dense import (
    InvertedBottleneckBlock,
    InvertedBottleneckMLP,
    SquaredHingeLoss,
    squared_hinge_loss,
)
from tests import peers
from tests.layers.arguments import as_users_call


@pytest.mark.parametrize("shape", [(1, 2), (7, 5), (3, 1)], ids=str)
def test_squared_hinge_equals_a_loop_and_its_gradient_the_formula(shape):
    scores = 2 * torch.randn(*shape).double()
    target, weight = torch.arange(shape[0]) % shape[1], torch.randn(shape[1], 4).double()
    scores.requires_grad_()
    total, gradient = torch.zeros(()).double(), torch.zeros(shape).double()
    for i in range(shape[0]):
        for k in range(shape[1]):
            sign = 1.0 if k == target[i] else -1.0
            margin = max(0.0, 1.0 - sign * scores[i, k].item())
            total = total + 3.0 * margin**2
            gradient[i, k] = -2 * 3.0 * sign * margin / shape[0]
    loss = squared_hinge_loss(scores, target, weight, c=3.0)
    torch.testing.assert_close(loss, weight.square().sum() / 4 + total / shape[0])
    torch.testing.assert_close(torch.autograd.grad(loss, scores)[0], gradient)
    assert torch.autograd.gradcheck(
        lambda s, w: squared_hinge_loss(s, target, w), (scores, weight.requires_grad_())
    )


def test_squared_hinge_is_zero_where_all_margins_exceed_one():
    scores = torch.tensor([[1.0, -1.0], [-5.0, 2.0]])
    assert squared_hinge_loss(scores, torch.tensor([0, 1])) == 0
    assert squared_hinge_loss(scores, torch.tensor([1, 1])) > 0


def test_the_optimum_equals_linear_svc_of_sklearn_on_every_class():
    x, y = load_wine(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    # Ours halves no norm, and takes means over 178 rows and 13 features; no bias, which sklearn penalises.
    peer = LinearSVC(
        C=0.5 * 13 / 178, loss="squared_hinge", dual=False, fit_intercept=False, tol=1e-10, max_iter=10000
    )
    peer.fit(x, y)
    features, target = torch.tensor(x), torch.tensor(y)
    weight = torch.zeros(3, 13, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight], max_iter=500, tolerance_grad=1e-12, tolerance_change=0.0, line_search_fn="strong_wolfe"
    )
    loss = SquaredHingeLoss(c=1.0)

    def closure():
        optimizer.zero_grad()
        value = loss(features @ weight.T, target, weight)
        value.backward()
        return value

    optimizer.step(closure)
    np.testing.assert_allclose(weight.detach().numpy(), peer.coef_, atol=1e-5)


def test_squared_hinge_differs_from_multi_margin_loss_which_compares_with_the_true_class():
    scores, target = torch.tensor([[5.0, 3.0]]), torch.tensor([0])
    assert nn.MultiMarginLoss(p=2)(scores, target) == 0
    assert squared_hinge_loss(scores, target) == 16


def test_squared_hinge_refuses_classes_without_a_score():
    with pytest.raises(ValueError, match="2 scores, but the classes go from 0 to 2"):
        squared_hinge_loss(torch.zeros(2, 2), torch.tensor([0, 2]))
    with pytest.raises(ValueError, match=r"\(2, 2\) and \(3,\)"):
        squared_hinge_loss(torch.zeros(2, 2), torch.tensor([0, 1, 1]))
    with pytest.raises(ValueError, match="go from -1 to 1"):
        squared_hinge_loss(torch.zeros(2, 2), torch.tensor([-1, 1]))
    with as_users_call(), pytest.raises(TypeError, match=r"classes of torch\.int64, got torch\.float32"):
        squared_hinge_loss(torch.zeros(2, 2), torch.zeros(2))
    with as_users_call(), pytest.raises(TypeError, match=r"scores of real numbers, got torch\.int64"):
        squared_hinge_loss(torch.zeros(2, 2, dtype=torch.int64), torch.tensor([0, 1]))
    for c in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="SquaredHingeLoss: c must be a finite number above 0"):
            SquaredHingeLoss(c=c)
    with as_users_call(), pytest.raises(TypeError, match="c must be"):
        SquaredHingeLoss(c="1")


def test_squared_hinge_is_vectorised_over_models():
    scores, target = torch.randn(3, 5, 2), torch.arange(5) % 2
    together = torch.func.vmap(squared_hinge_loss, in_dims=(0, None))(scores, target)
    torch.testing.assert_close(together, torch.stack([squared_hinge_loss(s, target) for s in scores]))


@pytest.mark.parametrize(("shape", "expansion"), [((1, 1), 1), ((5, 3), 4), ((2, 3, 7), 2)], ids=str)
def test_block_equals_numpy_and_its_inside_timm_in_value_and_gradient(shape, expansion):
    dim = shape[-1]
    block, z = InvertedBottleneckBlock(dim, expansion=expansion).double(), torch.randn(*shape).double()
    nn.init.normal_(block.norm.weight)
    nn.init.normal_(block.norm.bias)
    z.requires_grad_()
    with torch.no_grad():
        w = {name: p.numpy() for name, p in block.named_parameters()}
        x = z.detach().numpy()
    n = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    inside = (n * w["norm.weight"] + w["norm.bias"]) @ w["expand.weight"].T + w["expand.bias"]
    by_hand = x + (inside * (1 + erf(inside / 2**0.5)) / 2) @ w["contract.weight"].T + w["contract.bias"]
    np.testing.assert_allclose(block(z).detach().numpy(), by_hand, rtol=1e-9, atol=1e-12)
    peer = peers.timm_layers().Mlp(dim, expansion * dim).double()
    names = {"fc1": "expand", "fc2": "contract"}
    peer.load_state_dict(
        {
            f"{a}.{kind}": getattr(getattr(block, b), kind)
            for a, b in names.items()
            for kind in ("weight", "bias")
        }
    )
    inner = [torch.autograd.grad(y.square().sum(), z)[0] for y in (block(z) - z, peer(block.norm(z)))]
    torch.testing.assert_close(*inner)


def test_block_with_zero_contraction_is_the_identity():
    block, z = InvertedBottleneckBlock(7), torch.randn(3, 7)
    nn.init.zeros_(block.contract.weight)
    nn.init.zeros_(block.contract.bias)
    assert torch.equal(block(z), z)


@pytest.mark.parametrize(("dim", "depth", "expansion"), [(5, 0, 4), (7, 3, 2)])
def test_mlp_has_the_counted_parameters_and_equals_its_parts(dim, depth, expansion):
    mlp = InvertedBottleneckMLP(12, 3, dim=dim, depth=depth, expansion=expansion)
    per_block = 2 * expansion * dim**2 + (expansion + 1) * dim + 2 * dim
    counted = (12 * dim + dim) + depth * per_block + (3 * dim + 3)
    assert sum(p.numel() for p in mlp.parameters()) == counted
    x = torch.randn(4, 3, 2, 2)
    z = mlp.embed(x.reshape(4, 12))
    for block in mlp.blocks:
        z = block(z)
    torch.testing.assert_close(mlp(x), mlp.out(z))
    with pytest.raises(ValueError, match="with 12 values in each row"):
        mlp(torch.randn(4, 11))
