"""Options of local learning at their ends: rates of zero, one row, one step, limits met exactly, defaults."""

import pytest
import torch
from torch import nn

from course_lib.training import local_learning as local
from course_lib.training.local_learning import boltzmann
from tests.layers.arguments import as_users_call
from tests.layers.starts import starts


def state(module):
    return {name: x.clone() for name, x in module.state_dict().items()}


def unchanged(module, before):
    return all(torch.equal(x, before[name]) for name, x in module.state_dict().items())


# -- Boltzmann machines ----------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3])
def test_a_machine_takes_as_many_steps_of_its_chain_as_it_was_told(k, monkeypatch):
    taken = []
    monkeypatch.setattr(local.RBM, "gibbs", lambda self, v, *, steps: taken.append(steps) or v)
    local.RBM(4, 3, k=k).train_step(torch.rand(5, 4))
    local.contrastive_divergence_step(local.RBM(4, 3), torch.rand(5, 4), k=k)
    local.contrastive_divergence_step(local.RBM(4, 3), torch.rand(5, 4))
    local.DeepBeliefNetwork([4, 3], k=k).train_step(torch.rand(5, 4), layer=0)
    local.RBM(4, 3).train_step(torch.rand(5, 4))
    assert taken == [k, k, 1, k, 1]


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_the_chain_samples_both_sides_once_a_step(steps, monkeypatch):
    sampled = []
    sample = local.RBM.sample_visible
    monkeypatch.setattr(local.RBM, "sample_visible", lambda self, h: sampled.append(h) or sample(self, h))
    v = torch.rand(5, 4)
    out = local.RBM(4, 3).gibbs(v, steps=steps)
    assert len(sampled) == steps
    assert torch.equal(out, v) == (steps == 0)


def test_the_options_of_a_stack_reach_every_machine():
    stack = local.DeepBeliefNetwork([5, 4, 3, 2], visible="gaussian", lr=0.2, weight_decay=0.3, k=2)
    assert [(m.visible, m.lr, m.weight_decay, m.k) for m in stack.layers] == [
        ("gaussian", 0.2, 0.3, 2),
        ("binary", 0.2, 0.3, 2),
        ("binary", 0.2, 0.3, 2),
    ]
    assert [
        (m.visible, m.lr, m.momentum, m.weight_decay, m.k) for m in local.DeepBeliefNetwork([3, 2]).layers
    ] == [("binary", 0.1, 0.5, 1e-4, 1)]


def test_a_rate_of_zero_moves_nothing_and_decay_alone_shrinks_the_weight():
    x = torch.rand(6, 4)
    still = local.RBM(4, 3, lr=0.0)
    before = state(still)
    still.train_step(x)
    assert unchanged(still, before)
    machine, without = (local.RBM(4, 3, lr=0.5, weight_decay=decay) for decay in (0.1, 0.0))
    without.load_state_dict(machine.state_dict())
    weight = machine.weight.detach().clone()
    for each in (machine, without):
        torch.manual_seed(0)
        each.train_step(x)
    torch.testing.assert_close(without.weight - machine.weight, 0.5 * 0.1 * weight)
    torch.testing.assert_close(without.visible_bias, machine.visible_bias)


def test_momentum_is_a_half_in_the_first_fifth_of_pretraining_and_then_nine_tenths(monkeypatch):
    seen = []
    monkeypatch.setattr(local.RBM, "train_step", lambda self, v: seen.append((self.momentum, len(v))))
    local.DeepBeliefNetwork([4, 3]).pretrain(torch.rand(5, 4), steps=10)
    assert seen == [(0.5, 32)] * 2 + [(0.9, 32)] * 8
    seen.clear()
    local.DeepBeliefNetwork([4, 3, 2]).pretrain(torch.rand(5, 4), steps=1, batch_size=7)
    assert seen == [(0.5, 7)] * 2
    seen.clear()
    local.DeepBeliefNetwork([4, 3]).pretrain(torch.rand(5, 4), steps=0)
    assert seen == []


def test_a_machine_starts_with_small_weights_and_the_means_of_its_data():
    assert starts(local.RBM(60, 50), "weight", std=0.01)
    assert starts(local.RBM(6, 5), "hidden_bias")
    assert starts(local.RBM(6, 5), "visible_bias")
    machine, data = local.RBM(2, 1), torch.tensor([[0.0, 1.0], [0.0, 0.5], [0.0, 1.0]])
    machine.reset_parameters(data)
    expected = torch.tensor([0.25, 0.75]).logit()  # no sharper than one part in four of three rows
    torch.testing.assert_close(machine.visible_bias.detach(), expected)
    assert machine.visible_bias[0] == -machine.visible_bias[1]


def test_twenty_visible_units_are_enumerated_and_no_more(monkeypatch):
    with pytest.raises(ValueError, match="at most 20"):
        local.log_partition(local.RBM(21, 2))
    monkeypatch.setattr(boltzmann, "MAX_ENUMERATED", 3)
    machine = local.RBM(3, 2)
    states = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
    energy = torch.logsumexp(-machine.free_energy(states), 0)
    torch.testing.assert_close(local.log_partition(machine), energy)
    for wrong in (local.RBM(4, 2), local.RBM(3, 2, visible="gaussian")):
        with pytest.raises(ValueError, match="log Z"):
            local.log_partition(wrong)


def test_a_stack_needs_two_widths_and_a_layer_that_it_has():
    with pytest.raises(ValueError, match="dims"):
        local.DeepBeliefNetwork([4])
    stack = local.DeepBeliefNetwork([4, 3, 2])
    for layer in (-1, 2):
        with pytest.raises(ValueError, match=r"0\.\.1"):
            stack.train_step(torch.rand(5, 4), layer=layer)


@pytest.mark.parametrize("visible", ["binary", "gaussian"])
def test_free_energy_of_any_leading_axes(visible):
    machine, v = local.RBM(4, 3, visible=visible), torch.rand(2, 5, 4)
    expected = torch.stack([machine.free_energy(part) for part in v])
    torch.testing.assert_close(machine.free_energy(v), expected)
    torch.testing.assert_close(machine.free_energy(v[0, 0]), expected[0, 0])


# -- Forward-forward -------------------------------------------------------------------------------------


def test_the_options_of_forward_forward_act():
    model = local.ForwardForward(6, [5, 4], 3, reduction="mean", lr=0.25, label_value=0.5, theta=1.5)
    assert [o.param_groups[0]["lr"] for o in model.optimizers] == [0.25, 0.25]
    x = torch.rand(2, 6)
    h = model.layer_output(0, x)
    torch.testing.assert_close(model(x)[0], h.square().mean(-1))
    labelled = model._with_label(x, torch.tensor([0, 2]))
    assert labelled[:, :3].tolist() == [[0.5, 0, 0], [0, 0, 0.5]]
    torch.testing.assert_close(labelled[:, 3:], x[:, 3:])
    default = local.ForwardForward(6, [5], 3)
    assert (default.theta, default.reduction, default.label_value, default.collaboration) == (
        2.0,
        "sum",
        None,
        "none",
    )
    assert default.optimizers[0].param_groups[0]["lr"] == 1e-3
    torch.testing.assert_close(default(x)[0], default.layer_output(0, x).square().sum(-1))


def test_a_rate_of_zero_leaves_forward_forward_alone_and_theta_moves_the_loss():
    still, x, y = local.ForwardForward(6, [5], 3, lr=0.0), torch.rand(4, 6), torch.tensor([0, 1, 2, 0])
    before = state(still)
    still.train_step(x, y)
    assert unchanged(still, before)
    losses = []
    for theta in (2.0, 30.0):
        model = local.ForwardForward(6, [5], 3, theta=theta)
        model.load_state_dict(before)
        torch.manual_seed(0)
        losses.append(model.train_step(x, y)["layer_1"])
    assert losses[1] > losses[0] + 5


def test_the_wrong_label_is_any_other_and_never_the_true_one(monkeypatch):
    seen = []
    model = local.ForwardForward(6, [5], 3)
    with_label = model._with_label
    monkeypatch.setattr(model, "_with_label", lambda x, label: seen.append(label) or with_label(x, label))
    model.train_step(torch.rand(300, 6), torch.arange(300) % 3)
    true, wrong = seen
    assert {((b - a) % 3).item() for a, b in zip(true, wrong, strict=True)} == {1, 2}


def test_the_input_of_a_layer_has_length_one_per_feature_and_zero_stays_zero():
    model = local.ForwardForward(4, [3], 2).double()
    model.layers[0] = nn.Identity()
    h = torch.tensor([[3.0, 4.0, 0.0, 0.0], [0.0] * 4]).double()
    torch.testing.assert_close(model.layer_output(0, h), h * 2 / 5)


@pytest.mark.parametrize("width", [3, 4])
def test_a_label_fits_into_as_many_features_as_classes(width):
    x = torch.rand(2, width) + 1
    written = local.embed_label(x, torch.tensor([0, 2]), 3)
    torch.testing.assert_close(written[:, :3].amax(1), x.amax(1))
    torch.testing.assert_close(written[:, 3:], x[:, 3:])
    assert local.embed_label(x, torch.tensor([0, 2]), 3, value=7.0)[1, 2] == 7
    assert local.ForwardForward(3, [2], 3).in_features == 3
    for wrong, label in (
        (x[:, :2], torch.tensor([0, 1])),
        (x, torch.tensor([0, 3])),
        (x, torch.tensor([-1, 0])),
    ):
        with pytest.raises(ValueError, match="embed_label"):
            local.embed_label(wrong, label, 3)


def test_prediction_sums_the_layers_that_it_is_told():
    model, x = local.ForwardForward(6, [5, 4, 3], 3), torch.rand(20, 6)
    every = model.label_goodness(x)
    assert every.shape == (3, 20, 3)
    for layers in ([0], [1, 2]):
        assert torch.equal(model.predict(x, layers=layers), every[layers].sum(0).argmax(-1))
    assert torch.equal(model.predict(x), every.sum(0).argmax(-1))


# -- NoProp ----------------------------------------------------------------------------------------------


def test_the_options_of_noprop_act():
    model = local.NoProp(4, 3, num_steps=2, hidden_dim=5, embed_dim=6, eta=0.3, lr=0.25, last_alpha_bar=0.5)
    assert len(model.blocks) == 2
    assert model.blocks[0].read_input[0].out_features == 5
    assert model.alpha_bar[-1] == 0.5
    assert [o.param_groups[0]["lr"] for o in [*model.block_optimizers, model.shared_optimizer]] == [0.25] * 3
    assert isinstance(model.embedding, nn.Parameter)
    assert model.head.in_features == 6
    default = local.NoProp(4, 3)
    assert (len(default.blocks), default.eta, default.embedding.shape) == (10, 0.1, (3, 3))
    assert torch.equal(default.embedding, torch.eye(3))
    assert default.blocks[0].read_input[0].out_features == 64
    assert local.NoPropBlock(4, 3, 2).join[0].out_features == 64
    assert default.alpha_bar[-1].item() == pytest.approx(0.99)
    assert default.shared_optimizer.param_groups[0]["lr"] == 1e-3
    assert starts(local.NoProp(4, 30, embed_dim=40), "embedding", std=1.0)


@pytest.mark.parametrize("eta", [0.0, 0.1, 0.3])
def test_the_loss_of_a_block_is_in_proportion_to_eta_and_the_gain_of_signal(eta):
    one, model = (local.NoProp(4, 3, num_steps=3, eta=e) for e in (1.0, eta))
    model.load_state_dict(one.state_dict())
    x, y = torch.rand(5, 4), torch.tensor([0, 1, 2, 0, 1])
    losses = []
    for each in (one, model):
        torch.manual_seed(0)
        losses.append(each.block_loss(2, x, y).item())
    assert losses[1] == pytest.approx(eta * losses[0])
    snr = one.alpha_bar / (1 - one.alpha_bar)
    torch.manual_seed(0)
    estimate = one._estimate(one.blocks[1](one.noisy_label(y, 1), x))
    error = (estimate - one.embedding[y]).square().sum(-1).mean().item()
    assert losses[0] == pytest.approx(1.5 * (snr[2] - snr[1]).item() * error)


def test_a_rate_of_zero_leaves_noprop_alone_but_for_decay():
    model, x, y = local.NoProp(4, 3, num_steps=2, lr=0.0), torch.rand(5, 4), torch.tensor([0, 1, 2, 0, 1])
    before = state(model)
    assert set(model.train_step(x, y)) == {"block_1", "block_2", "head"}
    assert unchanged(model, before)


@pytest.mark.parametrize(
    ("alpha_bar", "fits"),
    [([0.0, 0.5], True), ([0.0, 0.999], True), ([0.1, 0.2, 0.3], True), ([0.5], False), ([-0.1, 0.5], False),
     ([0.0, 1.0], False), ([0.2, 0.2], False), ([0.2, 0.5, 0.4], False)],
)  # fmt: skip
def test_a_schedule_rises_strictly_from_zero_on_and_stays_below_one(alpha_bar, fits):
    if fits:
        a, b, c = local.noprop_coefficients(torch.tensor(alpha_bar))
        assert len(a) == len(alpha_bar) - 1
        assert ((a > 0) & (b >= 0) & (c > 0)).all()
    else:
        with pytest.raises(ValueError, match="rise strictly"):
            local.noprop_coefficients(torch.tensor(alpha_bar))


def test_the_schedule_of_a_single_step_and_its_last_value():
    torch.testing.assert_close(local.noprop_schedule(1), torch.tensor([0.0, 0.99]))
    torch.testing.assert_close(local.noprop_schedule(2, last=0.5), torch.tensor([0.0, 0.25, 0.5]))
    for last in (0.0, 1.0):
        with pytest.raises(ValueError, match="last"):
            local.noprop_schedule(2, last=last)
    with as_users_call(), pytest.raises(ValueError, match="as many rows"):
        local.NoPropBlock(4, 3, 2)(torch.rand(2, 3), torch.rand(3, 4))


# -- Maps ------------------------------------------------------------------------------------------------
