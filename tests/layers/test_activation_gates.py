"""Bilinear layers against torch's own; the Activator against einsum, permutations and Jacobians."""

import pytest
import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from course_lib.layers.activation import (
    Activator,
    ActivatorBlock,
    ActivatorGatingUnit,
    BilinearMLP,
    bilinear_eigenvectors,
    bilinear_interactions,
    bilinear_tensor,
    quadratic_forms,
)
from tests.oracles import values_and_gradients


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("d", "h", "o"), [(1, 1, 1), (5, 3, 2), (2, 7, 11)])
def test_bilinear_layer_equals_torch_bilinear_with_its_tensor_in_value_and_gradient(d, h, o, bias):
    layer = BilinearMLP(d, h, out_features=o, bias=bias).double()
    for symmetric in (True, False):
        tensor = bilinear_tensor(layer, symmetric=symmetric)
        peer = nn.Bilinear(d + bias, d + bias, o, bias=False).double()
        peer.weight.data = tensor.detach()

        def by_torch(x, peer=peer):
            x = F.pad(x, (0, 1), value=1.0) if bias else x
            return peer(x, x)

        x = torch.randn(3, 4, d).double()
        torch.testing.assert_close(values_and_gradients(layer, x), values_and_gradients(by_torch, x))
        torch.testing.assert_close(quadratic_forms(tensor, layer.augment(x)), layer(x))


def test_bilinear_tensor_equals_three_nested_loops():
    layer = BilinearMLP(2, 3, out_features=2, bias=False).double()
    w1, w2, out = layer.left.weight, layer.right.weight, layer.out.weight
    expected = torch.zeros(2, 2, 2).double()
    for o in range(2):
        for i in range(2):
            for j in range(2):
                expected[o, i, j] = sum(out[o, k] * w1[k, i] * w2[k, j] for k in range(3))
    torch.testing.assert_close(bilinear_tensor(layer, symmetric=False), expected)
    torch.testing.assert_close(bilinear_tensor(layer), (expected + expected.mT) / 2)


def test_bilinear_gradcheck_of_all_weights():
    layer = BilinearMLP(3, 4, out_features=2).double()
    names = [name for name, _ in layer.named_parameters()]
    x = torch.randn(2, 3).double()
    assert torch.autograd.gradcheck(
        lambda *w: torch.func.functional_call(layer, dict(zip(names, w, strict=True)), x),
        tuple(layer.parameters()),
    )


def test_bilinear_without_bias_is_even_and_of_second_degree():
    layer, x = BilinearMLP(5, 4, bias=False).double(), torch.randn(7, 5).double()
    torch.testing.assert_close(layer(-3 * x), 9 * layer(x))


def test_equal_maps_and_a_non_negative_read_out_give_positive_semidefinite_forms():
    layer = BilinearMLP(5, 3, out_features=2).double()
    layer.right.load_state_dict(layer.left.state_dict())
    layer.out.weight.data.abs_()
    values, _ = bilinear_eigenvectors(bilinear_tensor(layer))
    assert values.min() > -1e-10
    assert (values.abs() > 1e-10).sum(-1).tolist() == [3, 3]  # rank h


def test_pairs_of_parts_sum_to_the_whole_and_match_polarisation():
    tensor = torch.randn(2, 4, 4).double()
    parts = torch.randn(3, 5, 4).double()
    terms = bilinear_interactions(tensor, parts)
    torch.testing.assert_close(terms.sum((0, 1)), quadratic_forms(tensor, parts.sum(0)))
    torch.testing.assert_close(terms[0, 1], quadratic_forms(tensor, parts[0], parts[1]))
    # B(u, v) + B(v, u) = (B(u + v) - B(u - v)) / 2
    u, v = parts[0], parts[1]
    polar = (quadratic_forms(tensor, u + v) - quadratic_forms(tensor, u - v)) / 2
    torch.testing.assert_close(terms[0, 1] + terms[1, 0], polar)


def test_eigenvectors_rebuild_the_form_and_come_in_order():
    tensor = torch.randn(3, 5, 5).double()  # not symmetric on purpose
    values, vectors = bilinear_eigenvectors(tensor)
    x = torch.randn(4, 5).double()
    rebuilt = torch.einsum("or,bor->bo", values, torch.einsum("ori,bi->bor", vectors, x) ** 2)
    torch.testing.assert_close(rebuilt, quadratic_forms(tensor, x))
    assert (values.abs().diff(dim=-1) <= 0).all()
    torch.testing.assert_close(vectors @ vectors.mT, torch.eye(5).double().expand(3, 5, 5))


def test_bilinear_refuses_a_wrong_width():
    with pytest.raises(ValueError, match="expects 5"):
        BilinearMLP(5, 3)(torch.randn(2, 4))


def gate_by_einsum(gate, x):
    u = F.gelu(torch.einsum("btd,hd->bth", x, gate.gate.weight) + gate.gate.bias)
    v = torch.einsum("btd,hd->bth", x, gate.value.weight) + gate.value.bias

    def standardise(z):
        centred = z - z.mean(-1, keepdim=True)
        return (
            gate.norm.weight * centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
            + gate.norm.bias
        )

    return torch.einsum("bth,dh->btd", standardise(u) * standardise(v), gate.out.weight) + gate.out.bias


@pytest.mark.parametrize(("d", "h"), [(1, 2), (5, 7)])
def test_gate_equals_its_formula_by_einsum_in_value_and_gradient(d, h):
    gate = ActivatorGatingUnit(d, h).double()
    nn.init.normal_(gate.norm.weight)
    nn.init.normal_(gate.norm.bias)
    x = torch.randn(2, 3, d).double()
    torch.testing.assert_close(
        values_and_gradients(gate, x), values_and_gradients(lambda x: gate_by_einsum(gate, x), x)
    )


def test_reduced_block_with_a_zero_gate_is_the_identity_and_full_block_a_feed_forward_step():
    x = torch.randn(2, 3, 6).double()
    for full in (False, True):
        block = ActivatorBlock(6, 8, full=full).double()
        nn.init.zeros_(block.gate.out.weight)
        nn.init.zeros_(block.gate.out.bias)
        expected = x + block.mlp(F.layer_norm(x, (6,))) if full else x
        torch.testing.assert_close(block(x), expected)


def test_one_norm_serves_gate_and_feed_forward_network():
    names = [name for name, _ in ActivatorBlock(6, 8).named_parameters() if "norm" in name]
    assert names == ["norm.weight", "norm.bias", "gate.norm.weight", "gate.norm.bias"]


def test_tokens_never_meet_the_jacobian_of_a_block_is_block_diagonal():
    block, x = ActivatorBlock(4, 6).double(), torch.randn(5, 4).double()
    jacobian = torch.autograd.functional.jacobian(lambda x: block(x[None])[0], x)  # (t, d, s, d)
    across = jacobian.abs().sum((1, 3))
    assert torch.equal(across != 0, torch.eye(5).bool())


def shuffled(images, order, patch):
    tokens = rearrange(images, "b c (i p) (j q) -> b (i j) c p q", p=patch, q=patch)[:, order]
    return rearrange(tokens, "b (i j) c p q -> b c (i p) (j q)", i=images.shape[2] // patch)


def test_the_whole_model_does_not_notice_shuffled_patches_but_shuffled_pixels():
    model, images = (
        Activator(1, 10, image_size=8, patch=2, dim=6, hidden_dim=8, depth=2).double(),
        torch.rand(3, 1, 8, 8).double(),
    )
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(shuffled(images, order, 2)), model(images))
    assert (model(images.flip(3).roll(1, 3)) - model(images)).abs().max() > 1e-6


def test_model_is_the_mean_of_one_vote_per_patch():
    model, images = (
        Activator(1, 3, image_size=4, patch=2, dim=6, hidden_dim=8, depth=2).double(),
        torch.rand(2, 1, 4, 4).double(),
    )
    single = Activator(1, 3, image_size=2, patch=2, dim=6, hidden_dim=8, depth=2).double()
    single.load_state_dict(model.state_dict())
    votes = [single(images[..., i : i + 2, j : j + 2]) for i in (0, 2) for j in (0, 2)]
    torch.testing.assert_close(model(images), torch.stack(votes).mean(0))


def test_operations_of_a_gate_are_three_products_per_token():
    gate = ActivatorGatingUnit(8, 16)
    for tokens in (7, 70):
        with FlopCounterMode(display=False) as counter:
            gate(torch.randn(1, tokens, 8))
        assert counter.get_total_flops() == 2 * 3 * tokens * 8 * 16


def test_dropout_acts_in_training_only_and_shapes_are_checked():
    block, x = ActivatorBlock(6, 8, dropout=0.5), torch.randn(2, 3, 6)
    assert not torch.equal(block(x), block(x))
    assert torch.equal(block.eval()(x), block(x))
    with pytest.raises(ValueError, match=r"patch=3 does not divide image_size\[1\]=8; 2 and 4 do"):
        Activator(1, 10, image_size=(9, 8), patch=3, dim=6, hidden_dim=8, depth=1)
    model = Activator(1, 10, image_size=(8, 4), patch=2, dim=6, hidden_dim=8, depth=1)
    for shape in ((2, 3, 8, 4), (2, 1, 4, 8)):
        with pytest.raises(ValueError, match=r"expects x \(b, 1, 8, 4\)"):
            model(torch.rand(shape))
