"""Spiking neurons: their gain, a reset that keeps the rest, currents that look alike; a reversal to learn."""

import torch

from course_lib.classroom.answers import case, normal
from course_lib.exercises.layers.mixing._chapter import exercises
from course_lib.layers import mixing

# --------------------------------------------------------------------------------------- the gain


@exercises.add(
    cases=[
        case("a constant current", torch.tensor([0.0]), 2.0),
        case("half the sampling rate", torch.tensor([torch.pi]), 2.0),
        case("no leak: tau = 1", torch.tensor([0.3, 1.0]), 1.0),
        case("several frequencies", torch.linspace(0.1, 3.0, 5), 2.0),
        case("slow", torch.linspace(0.05, 3.1, 7), 10.0),
    ],
    hints=(
        "With u_(t-1) = v_(t-1): H = (1 - 1/tau) H exp(-i w) + 1/tau. Solve for H, then take its absolute value.",
        "|1 - a exp(-i w)|^2 = 1 - 2 a cos w + a^2.",
    ),
)
def my_gain(omega, tau):
    return mixing.lif_frequency_response(omega, tau).abs()


@my_gain.mistakes(
    continuous="This is the filter of continuous time, 1 / |1 + i w tau|; here time goes in steps.",
    without_input_factor="The current is divided by tau as well: a constant current of 1 must give a voltage of 1.",
    squared="The gain is |H|, not its square.",
    sign_of_cosine="At w = 0 the gain is one and it falls with w; yours rises: look at the sign of the cosine.",
    leak="The voltage keeps the share 1 - 1/tau, not 1/tau.",
    real_part="|H| is the length of a complex number, not its real part.",
    complex_number="|H| is a real number, the absolute value of your H.",
    keep_not_squared="|1 - a exp(-i w)|^2 = 1 - 2 a cos w + a^2: the last term is not squared in yours.",
    hertz="omega is in radians per step already: no 2 pi.",
    decibels="The gain itself is asked, not its decibels.",
    exponential_decay="One step keeps the share 1 - 1/tau, not exp(-1/tau).",
    no_delay="u_(t-1) is one step late: put H exp(i w (t - 1)) in its place.",
)
def _(omega, tau, *, wrong):
    if wrong.continuous:
        return 1 / torch.sqrt(1 + (omega * tau) ** 2)
    if wrong.hertz:
        omega = 2 * torch.pi * omega
    keep = 1 / tau if wrong.leak else 1 - 1 / tau
    if wrong.exponential_decay:
        keep = torch.tensor(-1 / tau).exp()
    if wrong.no_delay:
        return torch.ones_like(omega)
    if wrong.complex_number:
        return 1 / tau / (1 - keep * torch.exp(-1j * omega))
    share = 1.0 if wrong.without_input_factor else 1 / tau
    if wrong.real_part:
        return (share / (1 - keep * torch.exp(-1j * omega))).real
    gain = share / torch.sqrt(
        1
        - (-2 if wrong.sign_of_cosine else 2) * keep * torch.cos(omega)
        + keep ** (1 if wrong.keep_not_squared else 2)
    )
    if wrong.decibels:
        return 20 * gain.log10()
    return gain**2 if wrong.squared else gain


# ------------------------------------------------------------------------------ a reset by subtraction


def _currents():
    yield case("one step below the threshold", torch.tensor([[[1.5]]]), 2.0)
    yield case("one step above it", torch.tensor([[[2.6]]]), 2.0)
    yield case("exactly at it", torch.tensor([[[2.0]]]), 2.0)
    yield case("two steps add up", torch.tensor([[[1.5], [1.5]]]), 2.0)
    yield case("what is above the threshold stays", torch.tensor([[[5.0], [0.0], [0.0]]]), 2.0)
    yield case("several neurons", 3 * normal(2, 6, 3), 2.0)
    yield case("another tau", 4 * normal(2, 7, 2, seed=1), 3.0)


@exercises.add(
    cases=_currents,
    hints=(
        "hard + (soft - soft.detach()) has the value of hard and the gradient of soft.",
        "In the reset stands the hard step alone: u = v - hard.",
    ),
)
def my_soft_lif(x, tau):
    return _lif(x, tau)


def _lif(
    x, tau, *, slope=4.0, theta=1.0, reset=True, zero=False, divided=True, soft_reset=False, surrogate="step",
    strict=False, memory=True, leaks=True, keeps_its_share=False, cut=False,
):  # fmt: skip
    u, spikes = torch.zeros_like(x[:, 0]), []
    for current in x.unbind(1):
        v = (u if memory else 0 * u) + (current - (u if leaks else 0)) / (tau if divided else 1)
        if keeps_its_share:
            v = u * (1 - 1 / tau) + current
        hard = ((v > theta) if strict else (v >= theta)).to(x.dtype)
        soft = torch.sigmoid(slope * (v - theta))
        step = (
            hard + (soft - soft.detach())
            if surrogate == "step"
            else soft
            if surrogate == "soft"
            else v
            if surrogate == "voltage"
            else hard + (torch.sigmoid(slope * v - theta) - torch.sigmoid(slope * v - theta).detach())
            if surrogate == "moved"
            else hard + 0 * v
        )
        spikes.append(step)
        rest = step if soft_reset else hard
        u = v if not reset else v * (1 - rest) if zero else v - theta * rest
        u = u.detach() if cut else u
    return torch.stack(spikes, 1)


@my_soft_lif.mistakes(
    to_zero="Your reset goes to zero; here the threshold is subtracted and the rest stays.",
    no_reset="After a spike the threshold is subtracted from the voltage; yours goes on as it is.",
    undivided="Is everything that flows in divided by tau?",
    gradient_through_reset="The reset uses the hard spike: no gradient passes through it.",
    no_surrogate="Without a surrogate no gradient passes the step at all.",
    flat_surrogate="The slope of the surrogate is 4; yours is another.",
    soft_spikes="Forwards spikes are exactly 0 or 1; yours are soft.",
    strict="At exactly the threshold the neuron fires.",
    forgets="The voltage of the last step does not enter the next one.",
    no_leak="The neuron leaks: what flows in is x_t - u_(t-1), not x_t alone.",
    current_undivided="The current is divided by tau, too: v = u + (x - u) / tau.",
    voltages="These are the voltages; the spikes are asked.",
    cut_in_time="The gradient ends after one step: only the spike of the reset is held constant, the voltage is not.",
    surrogate_elsewhere="The logistic is steepest at the threshold: 4 (v - 1), not 4 v - 1.",
)
def _(x, tau, *, wrong):
    return _lif(
        x,
        tau,
        zero=wrong.to_zero,
        reset=not wrong.no_reset,
        divided=not wrong.undivided,
        soft_reset=wrong.gradient_through_reset,
        surrogate="none"
        if wrong.no_surrogate
        else "soft"
        if wrong.soft_spikes
        else "voltage"
        if wrong.voltages
        else "moved"
        if wrong.surrogate_elsewhere
        else "step",
        leaks=not wrong.no_leak,
        keeps_its_share=wrong.current_undivided,
        cut=wrong.cut_in_time,
        slope=1.0 if wrong.flat_surrogate else 4.0,
        strict=wrong.strict,
        memory=not wrong.forgets,
    )


# ---------------------------------------------------------------------------------- a counter-example


@exercises.accept(
    hints=(
        "With a reset to zero, what a current has above what it takes to reach the threshold is forgotten.",
        "Let one current be 2 at every step, and the other much stronger.",
    )
)
def my_same_spikes(result):
    if not (isinstance(result, tuple | list) and len(result) == 2):
        return "returns two currents"
    first, second = (torch.as_tensor(x).double() for x in result)
    if first.shape != (8,) or second.shape != (8,):
        return f"wants two currents of 8 steps, got the shapes {tuple(first.shape)} and {tuple(second.shape)}"
    if not (torch.isfinite(first).all() and torch.isfinite(second).all()):
        return "wants finite numbers"
    spikes = [_lif(x[None, :, None], 2.0, zero=True)[0, :, 0] for x in (first, second)]
    if min(s.sum() for s in spikes) < 3:
        return (
            f"fires {int(spikes[0].sum())} and {int(spikes[1].sum())} times; both must fire at least 3 times"
        )
    if ((first - second).abs() < 1).any():
        return "has two currents that differ by less than 1 at some step"
    if not torch.equal(*spikes):
        where = (spikes[0] != spikes[1]).nonzero()[0].item()
        return f"is told apart: the spikes differ at step {where}"
    return ""


# ---------------------------------------------------------------------------------------- a reversal


@exercises.add(
    cases=[
        case("two tokens", 2, 1),
        case("two tokens, two channels", 2, 2),
        case("three tokens", 3, 2),
        case("one token", 1, 3),
        case("five tokens, three channels", 5, 3),
    ],
    hints=(
        "For one channel it is the identity with its columns in the opposite order: torch.eye(tokens).flip(0).",
        "All channels are treated alike: a Kronecker product with an identity, as above.",
    ),
)
def my_reversal_matrix(tokens, channels):
    basis = torch.eye(tokens * channels).unflatten(1, (tokens, channels))
    return basis.flip(1).flatten(1).mT.double()


@my_reversal_matrix.mistakes(
    channels_too="The channels run backwards in yours as well: only the tokens are reversed.",
    identity="This matrix leaves all where it is.",
    other_layout="The numbers are laid out token by token, not channel by channel.",
    shifted="Yours moves every token by one place; token s goes to place tokens - 1 - s.",
    channels_reversed="Yours reverses the channels of every token; the tokens are to be reversed.",
    ones_factor="Every channel is moved for itself: an identity, not a matrix of ones.",
)
def _(tokens, channels, *, wrong):
    m = torch.eye(tokens)
    m = m if wrong.identity else m.roll(1, 0) if wrong.shifted else m.flip(0)
    eye = torch.eye(channels)
    if wrong.channels_reversed:
        m, eye = torch.eye(tokens), eye.flip(0)
    if wrong.ones_factor:
        eye = torch.ones_like(eye)
    if wrong.channels_too:
        eye = eye.flip(0)
    return (torch.kron(eye, m) if wrong.other_layout else torch.kron(m, eye)).double()
