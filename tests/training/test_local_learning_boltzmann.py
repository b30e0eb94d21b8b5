"""Boltzmann machines, against the enumeration of every state, autograd through it, and scikit-learn."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neural_network import BernoulliRBM

from course_lib.training.local_learning import (
    RBM,
    DeepBeliefNetwork,
    contrastive_divergence_step,
    free_energy,
    log_likelihood,
    log_partition,
)


def states(n: int) -> torch.Tensor:
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=n)), dtype=torch.float64)


def machine(num_visible: int = 5, num_hidden: int = 3, *, scale: float = 1.0, **options) -> RBM:
    rbm = RBM(num_visible, num_hidden, **options).double()
    for parameter in rbm.parameters():
        torch.nn.init.normal_(parameter, std=scale)
    return rbm


def joint(rbm: RBM) -> torch.Tensor:
    """P(v, h) of every state, rows v and columns h, from the energy alone."""
    v, h = states(rbm.num_visible), states(rbm.num_hidden)
    energy = -(v @ rbm.visible_bias)[:, None] - h @ rbm.hidden_bias - v @ rbm.weight @ h.T
    return torch.softmax(-energy.flatten(), 0).view_as(energy)


@pytest.mark.parametrize(("num_visible", "num_hidden"), [(1, 1), (5, 3), (2, 7)])
def test_free_energy_sums_the_hidden_units_out(num_visible, num_hidden):
    rbm = machine(num_visible, num_hidden)
    v, h = states(num_visible), states(num_hidden)
    energy = -(v @ rbm.visible_bias)[:, None] - h @ rbm.hidden_bias - v @ rbm.weight @ h.T
    torch.testing.assert_close(rbm.free_energy(v), -torch.logsumexp(-energy, 1))
    torch.testing.assert_close(log_partition(rbm), torch.logsumexp(-energy.flatten(), 0))


def test_conditionals_are_those_of_the_joint_distribution():
    rbm = machine()
    p, v, h = joint(rbm), states(5), states(3)
    torch.testing.assert_close(rbm(v), (p @ h) / p.sum(1, keepdim=True))
    torch.testing.assert_close(rbm.visible_mean(h), (p.T @ v) / p.sum(0)[:, None])


def test_gaussian_free_energy_and_mean():
    rbm = machine(2, 3, visible="gaussian")
    v, h = torch.randn(4, 2, dtype=torch.float64), states(3)
    energy = ((v - rbm.visible_bias) ** 2).sum(-1)[:, None] / 2 - h @ rbm.hidden_bias - v @ rbm.weight @ h.T
    torch.testing.assert_close(rbm.free_energy(v), -torch.logsumexp(-energy, 1))
    weights = torch.softmax(-energy, 1)
    torch.testing.assert_close(rbm(v), weights @ h)
    slope = torch.autograd.functional.jacobian(
        lambda x: ((x - rbm.visible_bias) ** 2).sum() / 2 - x @ rbm.weight @ h[5], rbm.visible_mean(h[5])
    )
    torch.testing.assert_close(
        slope, torch.zeros_like(slope)
    )  # the mean of a Gaussian is where its energy is least
    draws = rbm.sample_visible(h[5].expand(50_000, 3))
    torch.testing.assert_close(draws.mean(0), rbm.visible_mean(h[5]), atol=0.03, rtol=0)
    torch.testing.assert_close(draws.var(0), torch.ones(2, dtype=torch.float64), atol=0.03, rtol=0)


def test_probabilities_of_all_visible_vectors_sum_to_one():
    rbm = machine(7, 4)
    v = states(7)
    log_p = torch.stack([log_likelihood(rbm, row[None]) for row in v])
    torch.testing.assert_close(log_p.exp().sum(), torch.tensor(1.0, dtype=torch.float64))
    torch.testing.assert_close(log_p.exp(), joint(rbm).sum(1))
    torch.testing.assert_close(log_likelihood(rbm, v[3:8]), log_p[3:8].mean())


def test_gibbs_samples_have_the_enumerated_marginals():
    rbm = machine(4, 3)
    samples = rbm.gibbs(torch.zeros(40_000, 4, dtype=torch.float64), steps=60)
    index = (samples @ torch.tensor([8.0, 4.0, 2.0, 1.0], dtype=torch.float64)).long()
    frequency = torch.bincount(index, minlength=16).double() / 40_000
    torch.testing.assert_close(frequency, joint(rbm).sum(1).detach(), atol=0.012, rtol=0)


def test_contrastive_divergence_with_many_steps_is_the_exact_gradient():
    rbm = machine(4, 3, scale=0.7)
    data = states(4)[[3, 5, 12, 14]].repeat(10_000, 1)
    exact = torch.autograd.grad(log_likelihood(rbm, data), list(rbm.parameters()))
    sampled = contrastive_divergence_step(rbm, data, k=60)
    for a, b in zip(sampled, exact, strict=True):
        torch.testing.assert_close(a, b, atol=0.012, rtol=0)


def test_one_step_of_contrastive_divergence_has_the_expectation_of_its_chain():
    # Sum over every h0 and v1 instead of sampling them: what the step gives on average.
    rbm = machine(3, 2)
    data, v, h = states(3)[[1, 6]], states(3), states(2)
    p_h = torch.stack([torch.where(row == 1, rbm(data), 1 - rbm(data)).prod(-1) for row in h], dim=-1)
    mean = rbm.visible_mean(h)
    p_v = torch.stack([torch.where(row == 1, mean, 1 - mean).prod(-1) for row in v], dim=-1)
    p1 = p_h @ p_v
    expected = (
        data.T @ rbm(data) - (p1 @ (v[:, :, None] * rbm(v)[:, None]).flatten(1)).sum(0).view(3, 2)
    ) / 2
    sampled = contrastive_divergence_step(rbm, data.repeat(100_000, 1))
    torch.testing.assert_close(sampled[0], expected.detach(), atol=0.01, rtol=0)
    torch.testing.assert_close(sampled[1], (data - p1 @ v).mean(0).detach(), atol=0.01, rtol=0)
    torch.testing.assert_close(sampled[2], (rbm(data) - p1 @ rbm(v)).mean(0).detach(), atol=0.01, rtol=0)


def test_hidden_units_are_sampled_at_first_and_probabilities_at_last(monkeypatch):
    rbm, drawn = machine(), []
    monkeypatch.setattr(torch, "bernoulli", lambda p: drawn.append(p.clone()) or (p > 0.5).to(p.dtype))
    v0 = states(5)[[3, 9, 30]]
    weight, *_ = contrastive_divergence_step(rbm, v0)
    h0 = (rbm(v0) > 0.5).double()
    v1 = (rbm.visible_mean(h0) > 0.5).double()
    assert [tuple(p.shape) for p in drawn] == [(3, 3), (3, 5)]  # h0 and v1, and no last h
    torch.testing.assert_close(weight, ((v0.T @ rbm(v0) - v1.T @ rbm(v1)) / 3).detach())


def test_a_training_step_adds_momentum_and_decay():
    rbm = machine(lr=0.2, momentum=0.5, weight_decay=0.1)
    v = states(5)[[1, 7, 20, 28]]
    weight, bias = rbm.weight.detach().clone(), rbm.visible_bias.detach().clone()
    velocity = torch.zeros_like(weight)
    bias_velocity = torch.zeros_like(bias)
    for seed in range(3):
        torch.manual_seed(seed)
        step, bias_step, _ = contrastive_divergence_step(rbm, v)
        velocity = 0.5 * velocity + 0.2 * (step - 0.1 * weight)
        bias_velocity = 0.5 * bias_velocity + 0.2 * bias_step
        weight, bias = weight + velocity, bias + bias_velocity
        torch.manual_seed(seed)
        error = rbm.train_step(v)["reconstruction_error"]
        torch.testing.assert_close(rbm.weight.detach(), weight)
        torch.testing.assert_close(rbm.visible_bias.detach(), bias)
    assert error == pytest.approx((v - rbm.visible_mean(rbm(v))).square().mean().item())
    assert all(p.grad is None for p in rbm.parameters())


def test_training_raises_the_exact_likelihood():
    data = states(4)[[3, 12]]
    rbm = RBM(4, 4, lr=0.1).double()
    before = log_likelihood(rbm, data).item()
    for _ in range(600):
        rbm.train_step(data[torch.randint(2, (16,))])
    assert before == pytest.approx(4 * np.log(0.5), abs=0.02)
    assert np.log(0.5) > log_likelihood(rbm, data).item() > -1.5


@pytest.mark.parametrize("visible", ["binary", "gaussian"])
def test_visible_biases_begin_at_the_means_of_the_data(visible):
    data = torch.rand(50, 6, dtype=torch.float64)
    data[:, 0] = 0.0
    rbm = RBM(6, 3, visible=visible).double()
    rbm.reset_parameters(data)
    silent = torch.zeros(1, 3, dtype=torch.float64)
    torch.testing.assert_close(rbm.visible_mean(silent)[0, 1:].detach(), data.mean(0)[1:])
    assert torch.isfinite(rbm.visible_bias).all()
    assert rbm.weight.std() < 0.02


def test_scikit_learn_has_the_same_features_and_free_energy():
    digits = load_digits().data[:200] / 16
    peer = BernoulliRBM(13, n_iter=2, random_state=0).fit(digits)
    rbm = RBM(64, 13).double()
    rbm.weight.data = torch.from_numpy(peer.components_.T.copy())
    rbm.visible_bias.data = torch.from_numpy(peer.intercept_visible_.copy())
    rbm.hidden_bias.data = torch.from_numpy(peer.intercept_hidden_.copy())
    v = torch.from_numpy(digits)
    np.testing.assert_allclose(rbm(v).detach().numpy(), peer.transform(digits), rtol=1e-10)
    np.testing.assert_allclose(rbm.free_energy(v).detach().numpy(), peer._free_energy(digits), rtol=1e-10)
    by_hand = free_energy(v, rbm.weight, rbm.visible_bias, rbm.hidden_bias)
    assert torch.equal(by_hand, rbm.free_energy(v))


def test_a_deep_belief_network_trains_each_machine_on_the_features_below():
    data = torch.rand(30, 6, dtype=torch.float64)
    dbn = DeepBeliefNetwork([6, 5, 4, 3]).double()
    before = [rbm.weight.detach().clone() for rbm in dbn.layers]
    torch.manual_seed(4)
    alone = RBM(5, 4).double()
    alone.load_state_dict(dbn.layers[1].state_dict())
    torch.manual_seed(7)
    dbn.train_step(data, layer=1)
    torch.manual_seed(7)
    alone.train_step(dbn.layers[0](data).detach())
    torch.testing.assert_close(dbn.layers[1].weight, alone.weight)
    assert torch.equal(dbn.layers[0].weight, before[0])
    assert torch.equal(dbn.layers[2].weight, before[2])


def test_pretraining_is_greedy():
    data = torch.rand(40, 6, dtype=torch.float64)
    shallow, deep = DeepBeliefNetwork([6, 5]).double(), DeepBeliefNetwork([6, 5, 4]).double()
    for dbn in (shallow, deep):
        torch.manual_seed(1)
        dbn.pretrain(data, steps=20)
    assert torch.equal(shallow.layers[0].weight, deep.layers[0].weight)
    assert deep.layers[1].momentum == 0.9
    means = deep.layers[0](data).mean(0)  # where the second machine's visible biases began
    assert (torch.sigmoid(deep.layers[1].visible_bias) - means).abs().max() < 0.2


def test_features_and_classifier_are_the_stack():
    data = torch.rand(7, 6, dtype=torch.float64)
    dbn = DeepBeliefNetwork([6, 5, 4]).double().pretrain(data, steps=5, batch_size=4)
    features = dbn.features(data)
    torch.testing.assert_close(features[0], dbn.layers[0](data))
    torch.testing.assert_close(features[1], dbn(data))
    network = dbn.classifier(3)
    torch.testing.assert_close(network[:-1](data), features[1])
    assert network(data).shape == (7, 3)
    network(data).sum().backward()
    with torch.no_grad():
        network[0].weight.zero_()
    torch.testing.assert_close(dbn.features(data)[0], features[0])  # copies


def test_gaussian_units_stand_only_at_the_bottom():
    dbn = DeepBeliefNetwork([6, 5, 4], visible="gaussian")
    assert [rbm.visible for rbm in dbn.layers] == ["gaussian", "binary"]
    data = torch.randn(200, 6) @ torch.randn(6, 6)
    data = (data - data.mean(0)) / data.std(0)
    dbn.layers[0].lr = 0.03
    first = [dbn.train_step(data, layer=0)["reconstruction_error"] for _ in range(400)]
    assert first[-1] < 0.8 * first[0]


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="visible must be one of 'binary', 'gaussian'"):
        RBM(3, 2, visible="ternary")
    with pytest.raises(ValueError, match="visible must be one of 'binary', 'gaussian'"):
        free_energy(torch.zeros(3), torch.zeros(3, 2), torch.zeros(3), torch.zeros(2), visible="ternary")
    with pytest.raises(ValueError, match="RBM: k must be an integer of at least 1, got 0"):
        RBM(3, 2, k=0)
    with pytest.raises(ValueError, match=r"RBM\(3, 2, visible='binary'\) expects 3 entries"):
        RBM(3, 2)(torch.zeros(1, 4))
    with pytest.raises(ValueError, match="at least one row of v0"):
        contrastive_divergence_step(RBM(3, 2), torch.zeros(0, 3))
    with pytest.raises(ValueError, match="at most 20"):
        log_partition(RBM(21, 2))
    with pytest.raises(ValueError, match="gaussian"):
        log_partition(RBM(3, 2, visible="gaussian"))
    with pytest.raises(ValueError, match=r"layer must be one of 0\.\.1, got 2"):
        DeepBeliefNetwork([3, 2, 2]).train_step(torch.rand(4, 3), layer=2)
    with pytest.raises(ValueError, match="num_classes must be"):
        DeepBeliefNetwork([3, 2]).classifier(0)
    with pytest.raises(ValueError, match="expects 3 entries along axis -1 of v"):
        free_energy(torch.zeros(4), torch.zeros(3, 2), torch.zeros(3), torch.zeros(2))
    with pytest.raises(ValueError, match="at least one hidden"):
        DeepBeliefNetwork([5])
