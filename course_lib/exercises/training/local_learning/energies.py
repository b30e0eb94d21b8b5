"""A Boltzmann machine that can be summed up, one that copies, and the losses of Forward-Forward."""

import torch
from torch.nn import functional as F

from course_lib.classroom.answers import case, normal
from course_lib.exercises.training.local_learning._chapter import exercises


def _states(count):
    return torch.stack([torch.arange(2**count) >> i & 1 for i in reversed(range(count))], -1).double()


def _machines():
    def given(visible, hidden, seed=0):
        parts = (
            normal(visible, hidden, seed=seed),
            normal(visible, seed=seed + 1),
            normal(hidden, seed=seed + 2),
        )
        return _states(visible), *parts

    yield case("one visible, one hidden unit", *given(1, 1))
    yield case(
        "no weights: the visible units are coins of their own",
        _states(2),
        torch.zeros(2, 1),
        *given(2, 1)[2:],
    )
    yield case("two visible, three hidden units", *given(2, 3))
    states, *rest = given(3, 2)
    yield case("the rows in another order", states[[5, 0, 3, 6, 1, 7, 2, 4]], *rest)
    yield case("many hidden units", *given(4, 9))
    weight = torch.tensor([[1000.0, -800.0], [-1200.0, 900.0]])
    biases = torch.tensor([-999.5, 101.0]), torch.tensor([800.0, -200.0])
    yield case("numbers of a thousand", _states(2), weight, *biases)


@exercises.add(
    cases=_machines,
    hints=(
        "First the numbers -F(v), one a row: the sum over j is one over the hidden units. ln(1 + e^x) is F.softplus(x).",
        "e to the numbers, divided by the sum of that over all rows: torch has this as one function, safe for large ones.",
    ),
)
def my_probabilities(states, weight, visible_bias, hidden_bias):
    field = hidden_bias + torch.einsum("sv,vh->sh", states, weight)
    exponent = (states * visible_bias).sum(1) + torch.logaddexp(torch.zeros(()), field).sum(1)
    return (exponent - exponent.logsumexp(0)).exp()


@my_probabilities.mistakes(
    upside_down="Your improbable vectors are the probable ones: P is e to the MINUS F.",
    not_normalised="Your numbers do not add up to one: divide by the sum over all visible vectors.",
    no_hidden_bias="c, the bias of the hidden units, is missing.",
    no_visible_bias="b, the bias of the visible units, is missing.",
    visible_bias_negative="b . v enters -F with a plus: a unit with a large bias is on more often.",
    relu="You take the better of the two values of each hidden unit (a ReLU); both count: ln(1 + e^x).",
    all_hidden_on="Your hidden units are all on. The sum over both values of each gives a 1 + in front of the exponential.",
    expected_energy="You put the mean of h into the energy. The hidden units are summed out: ln(1 + e^x) for each.",
    sum_inside="The sum over the hidden units stands outside of the logarithm.",
)
@my_probabilities.mistakes(
    mean_of_hidden="The terms of the hidden units are added up, not averaged.",
    log_probabilities="These are the logarithms of the probabilities.",
    exponents_only="This is F itself: the probability is e to the minus F, divided by the sum over all vectors.",
    positive_exponents="This is -F: the probability is e to the power of it, divided by the sum of that over all vectors.",
    no_exponential="You divide -F itself by its sum. First comes the exponential.",
    hidden_negative="The terms of the hidden units enter -F with a plus.",
    b_for_each_hidden="b . v is added once, not once for each hidden unit.",
    by_sigmoid="A sigmoid looks at each vector for itself. The vectors compete: all probabilities together are one.",
)
def _(states, weight, visible_bias, hidden_bias, *, wrong):
    sent = states @ weight
    field = sent if wrong.no_hidden_bias else sent + hidden_bias
    terms = field.relu() if wrong.relu else field if wrong.all_hidden_on else F.softplus(field)
    if wrong.expected_energy:
        terms = field * torch.sigmoid(field)
    below = (
        F.softplus(field.sum(-1))
        if wrong.sum_inside
        else terms.mean(-1)
        if wrong.mean_of_hidden
        else terms.sum(-1)
    )
    own = states @ visible_bias
    exponent = (0 if wrong.no_visible_bias else -own if wrong.visible_bias_negative else own) + below
    if wrong.hidden_negative:
        exponent = own - below
    if wrong.b_for_each_hidden:
        exponent = exponent + (len(hidden_bias) - 1) * own
    exponent = -exponent if wrong.upside_down or wrong.exponents_only else exponent
    if wrong.exponents_only or wrong.positive_exponents:
        return exponent
    if wrong.no_exponential:
        return exponent / exponent.sum()
    if wrong.not_normalised:
        return exponent.exp()
    if wrong.by_sigmoid:
        return exponent.sigmoid()
    return exponent.log_softmax(0) if wrong.log_probabilities else exponent.softmax(0)


@exercises.accept(
    hints=(
        "Let each visible unit have a hidden unit of its own that copies it. What do the two biases have to do then?",
        "Weights 20 on the diagonal and c = -10 copy. Now lower b until the machine would rather see (0, 0).",
    )
)
def my_blind_machine(result):
    if not (isinstance(result, tuple | list) and len(result) == 3):
        return "returns three tensors: weight (2, h), visible_bias (2), hidden_bias (h)"
    weight, b, c = (torch.as_tensor(x).detach().double() for x in result)
    if weight.ndim != 2 or len(weight) != 2 or b.shape != (2,) or c.shape != weight.shape[1:]:
        shapes = ", ".join(str(tuple(x.shape)) for x in (weight, b, c))
        return f"wants tensors of the shapes (2, h), (2,) and (h,), got {shapes}"
    if not all(bool(x.isfinite().all()) for x in (weight, b, c)):
        return "wants finite numbers"
    states = _states(2)
    exponent = states @ b + F.softplus(states @ weight + c).sum(-1)
    data = torch.tensor([[1.0, 0], [0, 1]], dtype=torch.float64)
    back = torch.sigmoid(b + torch.sigmoid(c + data @ weight) @ weight.T)
    error = (back - data).square().mean().item()
    believed = exponent.softmax(0)[1:3].sum().item()
    if error >= 0.01:
        return (
            f"does not reconstruct well enough: the error is {error:.4f} (the probability is {believed:.3f})"
        )
    if believed >= 0.05:
        return f"is no counter-example: (1, 0) and (0, 1) together have the probability {believed:.3f}"
    return ""


def _batches():
    yield case("one good sample", torch.tensor([2.0]), torch.tensor([1.0]), 2.5, True)
    yield case("one bad sample", torch.tensor([2.0]), torch.tensor([1.0]), 2.5, False)
    yield case("nobody else: gamma = 0", 4 * normal(3).abs(), torch.zeros(3), 1.5, True)
    yield case("three good samples", 3 * normal(3).abs(), 2 * normal(3, seed=1).abs(), 4.0, True)
    yield case("five bad samples", 3 * normal(5).abs(), 2 * normal(5, seed=1).abs(), 4.0, False)
    far = torch.tensor([0.5, 3.0])
    yield case("bad samples with a goodness of a thousand", 1000 * far, far, 2.0, False)
    yield case("good samples below a threshold of a thousand", far, far.flip(0), 1000.0, True)


@exercises.add(
    cases=_batches,
    hints=(
        "Both logarithms can be written as one function of the margin m = G + gamma - theta: 1 - sigmoid(m) = sigmoid(-m).",
        "-ln sigmoid(m) = ln(1 + e^-m), which is F.softplus(-m), without overflow. Detach gamma, then take the mean.",
    ),
)
def my_ff_loss(goodness, gamma, theta, positive):
    margin = goodness + gamma.detach() - theta
    return -F.logsigmoid(margin if positive else -margin).mean()


@my_ff_loss.mistakes(
    gradient_through_gamma="A gradient reaches gamma: the other layers would be trained through this one's loss.",
    goodness_detached="The goodness itself is cut off: the layer hears nothing of its own loss.",
    same_for_both="Bad data want a small P: their loss is -ln(1 - P).",
    exchanged="Good and bad are the wrong way round: your layer would be loud for the wrong labels.",
    no_gamma="gamma is missing: this is plain Forward-Forward.",
    gamma_subtracted="gamma is added to the goodness: what the others say helps.",
    theta_added="theta is a threshold, from which the goodness counts: it is subtracted.",
    no_theta="theta, the threshold, is missing.",
    sign="The logarithm of a probability is negative; a loss is minus that.",
    summed="Average over the batch, do not sum: the step should not grow with the batch.",
    mean_first="You average before the logarithm: every sample has a loss of its own, and these are averaged.",
    no_logarithm="You take the probability itself; the loss is its logarithm, with a minus.",
    overflow="Far off, a probability rounds to 0 or an exponential overflows. torch has one function for ln(1 + e^x) that is safe.",
)
def _(goodness, gamma, theta, positive, *, wrong):
    others = gamma if wrong.gradient_through_gamma else gamma.detach()
    own = goodness.detach() if wrong.goodness_detached else goodness
    signs = 0 if wrong.no_gamma else -1 if wrong.gamma_subtracted else 1
    margin = own + signs * others - (0 if wrong.no_theta else -theta if wrong.theta_added else theta)
    margin = margin.mean() if wrong.mean_first else margin
    if wrong.exchanged:
        positive = not positive
    margin = margin if positive or wrong.same_for_both else -margin
    losses = 1 - margin.sigmoid() if wrong.no_logarithm else F.softplus(-margin)
    if wrong.overflow:
        p = torch.sigmoid(margin if positive else -margin)
        losses = -torch.log(p if positive else 1 - p)
    loss = losses.sum() if wrong.summed else losses.mean()
    return -loss if wrong.sign else loss


def _cut_off(epsilon):
    def cut(goodness, gamma, theta, positive):
        p = torch.sigmoid(goodness + gamma.detach() - theta)
        return -torch.log((p if positive else 1 - p).clamp(min=epsilon)).mean()

    cut.__name__ = f"cut_off at {epsilon:.0e}"
    return cut


for _epsilon in (
    1e-5,
    1e-6,
    1e-7,
    1e-8,
    1e-9,
    1e-10,
    1e-12,
    1e-15,
    1e-16,
    1e-20,
    1e-30,
    3.7200759760208356e-44,
):
    my_ff_loss.mistake(  # the last one is what F.binary_cross_entropy does
        "Cutting P off (a clamp, a small number added, F.binary_cross_entropy) hides the infinity, and the gradient with "
        "it: far off, the loss should still grow."
    )(_cut_off(_epsilon))


def _teams():
    def given(layers, size, theta, seed=0):
        return [3 * normal(size, seed=seed + i).abs() for i in range(layers)], theta

    yield case(
        "two layers, one sample of each kind", [torch.tensor([2.0, 0.0]), torch.tensor([1.0, 4.0])], 3.0
    )
    yield case("three layers", *given(3, 4, 6.0))
    yield case("four layers, many samples", *given(4, 10, 9.0, seed=5))


@exercises.add(
    cases=_teams,
    hints=(
        "gamma.chunk(2) and own.chunk(2) give the good and the bad half; both halves of both are needed.",
    ),
)
def my_team_losses(every, theta):
    half, losses = len(every[0]) // 2, []
    for i in range(len(every)):
        margin = torch.stack([g if i == j else g.detach() for j, g in enumerate(every)]).sum(0) - theta
        losses.append(-F.logsigmoid(margin[:half]).mean() - F.logsigmoid(-margin[half:]).mean())
    return losses


@my_team_losses.mistakes(
    itself_twice="Each layer's own goodness counts twice: gamma is the sum over the OTHER layers.",
    not_cut="A loss trains the other layers, too: gamma must be cut off, which my_ff_loss does for you.",
    nothing_pulls="The values are right, but no gradient comes to the layer's own goodness: it cancels, is cut, or leaves torch.",
    only_below="You count the layers below only. That is another variant; here all others count.",
    mean_of_others="Add the goodness of the other layers up; you took their mean.",
    strangers="The others are missing: your layers are strangers to each other.",
    halves_exchanged="The first half is the good one: your layers learn to be loud for wrong labels.",
    halved="The loss of a layer is the good half's plus the bad half's, not their mean.",
    good_gamma_for_both="The bad half needs what the others say about the bad half; you took the good one's.",
)
@my_team_losses.mistakes(
    only_above="You count the layers above only; here all others count.",
    every_other_sample="Good and bad do not take turns: the first half of the batch is good, the second is bad.",
    gammas_exchanged="The good half of a layer needs the good half of the others; yours are crossed.",
    no_halves="Both your losses look at the whole batch. Only the first half is good, only the second is bad.",
    good_only="The bad half is missing.",
    bad_only="The good half is missing.",
    all_good="The bad half has positive=False.",
    same_loss_for_all="Your layers all have the same loss: each has gradients of its own goodness alone.",
)
def _(every, theta, *, wrong):
    losses = []
    for i, own in enumerate(every):
        others = [
            g
            for j, g in enumerate(every)
            if (j != i or wrong.itself_twice)
            and not (wrong.only_below and j > i)
            and not (wrong.only_above and j < i)
            and not wrong.strangers
        ]
        gamma = sum(others, torch.zeros_like(own))
        gamma = gamma / max(len(others), 1) if wrong.mean_of_others else gamma
        gamma = gamma if wrong.not_cut else gamma.detach()
        margin = own + gamma - theta
        if wrong.nothing_pulls:
            margin = margin.detach()
        good, bad = (margin[::2], margin[1::2]) if wrong.every_other_sample else margin.chunk(2)
        if wrong.halves_exchanged:
            good, bad = bad, good
        if wrong.good_gamma_for_both:
            bad = own.chunk(2)[1] + gamma.chunk(2)[0] - theta
        if wrong.gammas_exchanged:
            good, bad = ((own + gamma.roll(len(own) // 2)) - theta).chunk(2)
        if wrong.no_halves:
            good = bad = margin
        parts = F.softplus(-good).mean(), F.softplus(-bad if wrong.all_good else bad).mean()
        loss = (0 if wrong.bad_only else parts[0]) + (0 if wrong.good_only else parts[1])
        losses.append(loss / 2 if wrong.halved else loss)
    return [sum(losses)] * len(every) if wrong.same_loss_for_all else losses
