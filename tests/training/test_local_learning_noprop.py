"""NoProp, against the conditional of a joint Gaussian, its own marginals by sampling, and autograd."""

import math

import pytest
import torch
from torch.nn import functional as F

from course_lib.training.local_learning import NoProp, NoPropBlock, noprop_coefficients, noprop_schedule
from course_lib.training.memory_saving import PeakMeter

STEPS = [1, 2, 7, 10, 101]


def schedule(steps: int) -> torch.Tensor:
    return noprop_schedule(steps).double()


def toy(num_steps: int = 3, **options) -> tuple[NoProp, torch.Tensor, torch.Tensor]:
    model = NoProp(5, 3, num_steps=num_steps, hidden_dim=8, **options)
    y = torch.arange(12) % 3
    return model, F.one_hot(y, 5) + 0.1 * torch.randn(12, 5), y


@pytest.mark.parametrize("steps", STEPS)
def test_the_schedule_rises_from_noise_to_almost_no_noise(steps):
    alpha_bar = noprop_schedule(steps, last=0.9)
    assert len(alpha_bar) == steps + 1
    assert alpha_bar[0] == 0
    assert alpha_bar[-1] == pytest.approx(0.9)
    assert (alpha_bar.diff() > 0).all()
    halfway = 0.9 * math.cos(math.pi / 4) ** 2
    if steps % 2 == 0:
        assert alpha_bar[steps // 2] == pytest.approx(halfway)


@pytest.mark.parametrize("steps", STEPS)
def test_coefficients_keep_mean_and_variance_of_the_noisy_label(steps):
    alpha_bar = schedule(steps)
    a, b, c = noprop_coefficients(alpha_bar)
    before, after = alpha_bar[:-1], alpha_bar[1:]
    torch.testing.assert_close(a + b * before.sqrt(), after.sqrt(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(b**2 * (1 - before) + c, 1 - after, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("steps", STEPS)
def test_coefficients_are_the_posterior_of_the_noising_process(steps):
    # z_t = sqrt(abar_t) u + noise, z_{t-1} = sqrt(alpha) z_t + more noise: condition the joint Gaussian.
    alpha_bar = schedule(steps)
    for t, (a, b, c) in enumerate(zip(*noprop_coefficients(alpha_bar), strict=True), 1):
        alpha = alpha_bar[t - 1] / alpha_bar[t]
        mix = torch.tensor([[1.0, 0.0], [alpha.sqrt(), (1 - alpha).sqrt()]], dtype=torch.float64)
        covariance = mix @ torch.diag(torch.stack([1 - alpha_bar[t], torch.ones_like(alpha)])) @ mix.T
        gain = covariance[0, 1] / covariance[1, 1]
        mean_per_u = alpha_bar[t].sqrt() - gain * alpha.sqrt() * alpha_bar[t].sqrt()
        variance = covariance[0, 0] - gain * covariance[0, 1]
        torch.testing.assert_close(torch.stack([a, b, c]), torch.stack([mean_per_u, gain, variance]))


def test_with_the_true_label_the_chain_follows_its_marginals():
    alpha_bar, u, draws = schedule(5), 1.7, 100_000
    z = torch.randn(draws, dtype=torch.float64)
    for t, (a, b, c) in enumerate(zip(*noprop_coefficients(alpha_bar), strict=True), 1):
        z = a * u + b * z + c.sqrt() * torch.randn_like(z)
        spread = (1 - alpha_bar[t]).sqrt()
        assert abs(z.mean() - alpha_bar[t].sqrt() * u) < 5 * spread / math.sqrt(draws)
        assert abs(z.var() / spread**2 - 1) < 5 * math.sqrt(2 / draws)


def test_the_model_runs_these_very_steps(monkeypatch):
    model, x, _ = toy()
    model.double()
    monkeypatch.setattr(torch, "randn_like", lambda z: torch.full_like(z, 0.7))
    monkeypatch.setattr(torch, "randn", lambda *shape, **kwargs: torch.zeros(*shape, **kwargs))
    z = torch.zeros(len(x), 3, dtype=torch.float64)
    for block, a, b, c in zip(model.blocks, *noprop_coefficients(model.alpha_bar), strict=True):
        z = a * F.softmax(block(z, x.double()), -1) + b * z + 0.7 * c.sqrt()
    torch.testing.assert_close(model(x.double()), model.head(z))
    assert torch.equal(model.predict(x.double()), model.head(z).argmax(-1))


def test_noisy_labels_are_drawn_from_their_distribution():
    model, _, _ = toy()
    y = torch.full((50_000,), 2)
    for t in range(4):
        z = model.noisy_label(y, t)
        alpha_bar = model.alpha_bar[t]
        assert torch.allclose(z.mean(0), alpha_bar.sqrt() * F.one_hot(torch.tensor(2), 3), atol=0.025)
        assert torch.allclose(z.var(0), (1 - alpha_bar).expand(3), atol=0.03)


def test_the_loss_is_the_weighted_squared_error():
    model, x, y = toy(eta=0.3)
    torch.manual_seed(1)
    loss = model.block_loss(2, x, y)
    torch.manual_seed(1)
    estimate = F.softmax(model.blocks[1](model.noisy_label(y, 1), x), -1)
    abar = model.alpha_bar.tolist()
    weight = 3 / 2 * 0.3 * (abar[2] / (1 - abar[2]) - abar[1] / (1 - abar[1]))
    expected = sum(weight * ((estimate[i] - torch.eye(3)[y[i]]) ** 2).sum() for i in range(len(x))) / len(x)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("t", [1, 2, 3])
def test_the_loss_of_a_block_reaches_no_other_block(t):
    model, x, y = toy()
    model.block_loss(t, x, y).backward()
    for i, block in enumerate(model.blocks, 1):
        reached = [p.grad is not None and bool(p.grad.abs().max() > 0) for p in block.parameters()]
        assert all(reached) if i == t else not any(reached)
    assert all(p.grad is None for p in model.head.parameters())


def test_a_step_moves_a_block_as_if_it_were_alone():
    model, x, y = toy(num_steps=1)
    alone = NoProp(5, 3, num_steps=1, hidden_dim=8)
    alone.load_state_dict(model.state_dict())
    torch.manual_seed(3)
    model.train_step(x, y)
    torch.manual_seed(3)
    optimizer = torch.optim.AdamW(alone.blocks[0].parameters(), lr=1e-3)
    alone.block_loss(1, x, y).backward()
    optimizer.step()
    for a, b in zip(model.blocks.parameters(), alone.blocks.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_blocks_can_be_trained_in_any_order():
    forwards, x, y = toy()
    backwards = NoProp(5, 3, num_steps=3, hidden_dim=8)
    backwards.load_state_dict(forwards.state_dict())
    for model, order in ((forwards, (1, 2, 3)), (backwards, (3, 2, 1))):
        for t in order:
            torch.manual_seed(t)
            model.block_loss(t, x, y).backward()
            model.block_optimizers[t - 1].step()
    for a, b in zip(forwards.parameters(), backwards.parameters(), strict=True):
        assert torch.equal(a, b)


def test_it_learns_a_toy_problem():
    model, x, y = toy(lr=0.01)
    for _ in range(150):
        losses = model.train_step(x, y)
    assert all(math.isfinite(loss) for loss in losses.values())
    assert (model.predict(x) == y).float().mean() > 0.9
    assert (model.read_out(x) == y).float().mean(-1).shape == (3,)


def test_a_learned_embedding_moves_and_its_divergence_is_that_of_two_gaussians():
    model, x, y = toy(embed_dim=4)
    before = model.embedding.clone()
    model.train_step(x, y)
    assert not torch.equal(before, model.embedding)
    model.alpha_bar[0] = 0.3
    torch.manual_seed(1)
    total = model.head_loss(y)
    torch.manual_seed(1)
    cross_entropy = F.cross_entropy(model.head(model.noisy_label(y, 3)), y)
    noisy = torch.distributions.Normal(math.sqrt(0.3) * model.embedding[y], math.sqrt(0.7))
    divergence = torch.distributions.kl_divergence(noisy, torch.distributions.Normal(0.0, 1.0)).sum(-1).mean()
    torch.testing.assert_close(total - cross_entropy, divergence)


def test_stored_bytes_do_not_grow_with_depth_but_those_of_backpropagation_do():
    local, whole = [], []
    for steps in (2, 4, 8):
        model, x, y = toy(num_steps=steps)
        with PeakMeter() as meter:
            model.train_step(x, y)
        local.append(meter.peak)
        with PeakMeter() as meter:
            F.cross_entropy(model(x), y).backward()
        whole.append(meter.peak)
    assert local[0] == local[1] == local[2]
    assert whole[2] - whole[1] == 2 * (whole[1] - whole[0]) > 0


@pytest.mark.parametrize("alpha_bar", [[0.5], [0.0, 0.5, 0.5], [0.5, 0.2], [-0.1, 0.5], [0.0, 1.0]], ids=str)
def test_a_schedule_that_does_not_rise_below_one_is_refused(alpha_bar):
    with pytest.raises(ValueError, match="rise strictly"):
        noprop_coefficients(torch.tensor(alpha_bar))


def test_bad_input_is_refused():
    model, x, y = toy()
    with pytest.raises(ValueError, match="num_steps must be an integer of at least 1, got 0"):
        noprop_schedule(0)
    with pytest.raises(ValueError, match=r"last must be below 1, got 1\.0"):
        noprop_schedule(3, last=1.0)
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.2"):
        model.train_step(x, y + 1)
    with pytest.raises(ValueError, match="at least one row"):
        model.train_step(x[:0], y[:0])
    with pytest.raises(ValueError, match=r"NoProp\(5, .*expects 5 entries along axis -1 of x"):
        model.predict(x[:, :4])
    with pytest.raises(ValueError, match="expects 3 entries along axis -1 of z"):
        NoPropBlock(5, 3, 3)(torch.randn(2, 4), x[:2])
