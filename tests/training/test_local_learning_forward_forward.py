"""Forward-Forward, alone and in collaboration: finite differences, probabilities, one global loss."""

import pytest
import torch
from torch.distributions import Bernoulli

from course_lib.training.local_learning import ForwardForward, embed_label, ff_loss, goodness
from course_lib.training.memory_saving import saved_bytes

VARIANTS = ["none", "earlier", "all"]


def toy(collaboration: str = "none", hidden=(7, 5, 3), **options):
    model = ForwardForward(9, hidden, 4, collaboration=collaboration, theta=1.0, **options).double()
    y = torch.arange(12) % 4
    x = torch.rand(12, 9, dtype=torch.float64)
    x[torch.arange(12), 4 + y] += 2  # behind the four entries that the label overwrites
    return model, x, y


def all_goodness(model, h):
    found = []
    for i in range(len(model.layers)):
        h = model.layer_output(i, h)
        found.append(goodness(h))
    return found


def test_the_label_is_written_one_hot_at_the_maximum_of_each_vector():
    x = torch.rand(2, 3, 7, dtype=torch.float64)
    before = x.clone()
    label = torch.tensor([[0, 3, 1], [2, 2, 0]])
    written = embed_label(x, label, 4)
    assert torch.equal(x, before)
    assert torch.equal(written[..., 4:], x[..., 4:])
    for row in range(2):
        for column in range(3):
            head = [0.0] * 4
            head[label[row, column]] = x[row, column].max().item()
            assert written[row, column, :4].tolist() == head
    assert embed_label(x, label, 4, value=0.5)[0, 1, 3] == 0.5


def test_goodness_is_the_squared_length():
    h = torch.randn(3, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(goodness(h), torch.linalg.vector_norm(h, dim=-1) ** 2)
    torch.testing.assert_close(goodness(h, reduction="mean") * 7, goodness(h))


@pytest.mark.parametrize("positive", [True, False])
def test_the_loss_is_the_negative_log_probability(positive):
    g, gamma = torch.rand(11, dtype=torch.float64) * 8, torch.rand(11, dtype=torch.float64)
    probability = Bernoulli(logits=g + gamma - 3.0)
    expected = -probability.log_prob(torch.full_like(g, float(positive))).mean()
    torch.testing.assert_close(ff_loss(g, gamma, 3.0, positive), expected)
    torch.testing.assert_close(
        ff_loss(g, torch.zeros(11).double(), 3.0, positive), ff_loss(g, 0.0, 3.0, positive)
    )


def test_the_loss_survives_huge_goodness():
    g = torch.tensor([1e4, -1e4], requires_grad=True)
    ff_loss(g, 0.0, 2.0, False).backward()
    assert torch.equal(g.grad, torch.tensor([0.5, 0.0]))


def test_no_gradient_flows_through_gamma():
    g, gamma = torch.rand(3, requires_grad=True), torch.rand(3, requires_grad=True)
    ff_loss(g, gamma, 2.0, True).backward()
    assert gamma.grad is None
    assert g.grad is not None


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("i", [0, 1, 2])
def test_the_loss_of_a_layer_agrees_with_finite_differences(i, positive):
    model, x, _ = toy()
    layer = model.layers[i]
    inputs = x
    for below in range(i):
        inputs = model.layer_output(below, inputs)

    def loss(weight, bias):
        layer_input = inputs.detach()
        h = (layer_input / layer_input.square().mean(-1, keepdim=True).sqrt()) @ weight.T + bias
        return ff_loss(goodness(h.clamp(min=0)), 0.4, model.theta, positive)

    assert torch.autograd.gradcheck(loss, (layer.weight, layer.bias))
    expected = torch.autograd.grad(loss(layer.weight, layer.bias), layer.weight)[0]
    actual = torch.autograd.grad(
        ff_loss(goodness(model.layer_output(i, inputs)), 0.4, model.theta, positive), layer.weight
    )[0]
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-9)  # the model adds 1e-8 to the length


@pytest.mark.parametrize("collaboration", VARIANTS)
@pytest.mark.parametrize("i", [0, 1, 2])
def test_the_loss_of_a_layer_reaches_no_other_layer(collaboration, i):
    model, x, _ = toy(collaboration)
    model.layer_loss(i, all_goodness(model, x)).backward()
    for t, layer in enumerate(model.layers):
        if t == i:
            assert layer.weight.grad.abs().max() > 0
        else:
            assert layer.weight.grad is None


@pytest.mark.parametrize("positive", [True, False])
def test_collaboration_follows_the_gradient_of_one_global_loss(positive):
    model, x, _ = toy("all")
    every = all_goodness(model, x)
    whole = ff_loss(torch.stack(every).sum(0), 0.0, model.theta, positive)  # layer inputs are detached
    weights = [layer.weight for layer in model.layers]
    expected = torch.autograd.grad(whole, weights, retain_graph=True)
    for i, weight in enumerate(weights):
        gamma = sum(g for t, g in enumerate(every) if t != i)
        loss = ff_loss(every[i], gamma, model.theta, positive)
        actual = torch.autograd.grad(loss, weight, retain_graph=True)[0]
        torch.testing.assert_close(actual, expected[i], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("i", [0, 1, 2])
def test_each_variant_sums_the_goodness_it_says(i):
    goodnesses = [torch.rand(8, dtype=torch.float64) for _ in range(3)]
    chosen = {"none": [], "earlier": range(i), "all": [t for t in range(3) if t != i]}
    for collaboration, others in chosen.items():
        model, *_ = toy(collaboration)
        total = goodnesses[i] + sum((goodnesses[t] for t in others), torch.zeros(8).double())
        expected = ff_loss(total[:4], 0.0, 1.0, True) + ff_loss(total[4:], 0.0, 1.0, False)
        torch.testing.assert_close(model.layer_loss(i, goodnesses), expected)


def test_a_single_layer_has_nobody_to_collaborate_with():
    states = []
    for collaboration in VARIANTS:
        torch.manual_seed(0)
        model, x, y = toy(collaboration, hidden=(6,))
        model.train_step(x, y)
        states.append(model.layers[0].weight.detach())
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])


def test_a_step_is_one_adam_step_per_layer_from_the_same_forward_pass():
    model, x, y = toy("all")
    twin, *_ = toy("all")
    twin.load_state_dict(model.state_dict())
    torch.manual_seed(5)
    losses = model.train_step(x, y)
    torch.manual_seed(5)
    wrong = (y + torch.randint_like(y, 1, 4)) % 4
    assert (wrong != y).all()
    every = all_goodness(twin, torch.cat([embed_label(x, y, 4), embed_label(x, wrong, 4)]))
    optimizer = torch.optim.Adam(twin.layers.parameters(), lr=1e-3)
    for i in range(3):
        loss = twin.layer_loss(i, every)
        assert losses[f"layer_{i + 1}"] == pytest.approx(loss.item())
        loss.backward()
    optimizer.step()
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("collaboration", VARIANTS)
def test_it_learns_a_toy_problem(collaboration):
    torch.manual_seed(2)
    model, x, y = toy(collaboration, hidden=(32, 32), lr=0.01)
    for _ in range(200):
        model.train_step(x, y)
    assert (model.predict(x) == y).float().mean() > 0.8


def test_prediction_takes_the_label_with_the_largest_sum():
    model, x, _ = toy()
    by_hand = torch.stack(
        [torch.stack(all_goodness(model, embed_label(x, torch.full((12,), k), 4))) for k in range(4)], dim=-1
    )
    torch.testing.assert_close(model.label_goodness(x), by_hand)
    assert torch.equal(model.predict(x), by_hand.sum(0).argmax(-1))
    assert torch.equal(model.predict(x, layers=[1, 2]), by_hand[1:].sum(0).argmax(-1))
    assert torch.equal(model.read_out(x), by_hand.argmax(-1))


def test_goodness_is_not_passed_on():
    model, x, _ = toy()
    torch.testing.assert_close(model(x), model(100 * x))


def test_a_step_of_plain_forward_forward_keeps_one_layer_and_of_full_collaboration_all():
    peaks = {}
    for collaboration in VARIANTS:
        for depth in (2, 4, 8):
            model, x, y = toy(collaboration, hidden=[9] * depth)
            peaks[collaboration, depth] = saved_bytes(lambda model=model, x=x, y=y: model.train_step(x, y))
    assert peaks["none", 2] == peaks["none", 4] == peaks["none", 8]
    assert peaks["earlier", 2] == peaks["earlier", 4] == peaks["earlier", 8]
    growth = peaks["all", 4] - peaks["all", 2]
    assert peaks["all", 8] - peaks["all", 4] == 2 * growth > 0


def test_bad_input_is_refused():
    model, x, y = toy()
    with pytest.raises(ValueError, match="collaboration must be one of"):
        toy("some")
    with pytest.raises(ValueError, match="dims must name at least one layer"):
        ForwardForward(9, [], 4)
    with pytest.raises(ValueError, match=r"ForwardForward\(9, .*expects x \(b, 9\)"):
        model.train_step(x[:, :8], y)
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.3"):
        embed_label(x, y + 1, 4)
    with pytest.raises(ValueError, match="do not fit"):
        embed_label(x[:, :3], y, 4)
    with pytest.raises(ValueError, match="reduction must be one of 'sum', 'mean'"):
        goodness(x, reduction="max")
    with pytest.raises(ValueError, match="empty batch"):
        ff_loss(x[:0, 0], 0.0, 2.0, True)
