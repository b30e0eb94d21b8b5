"""A self-organising map, and which later layers judge a layer of AugLocal."""

import math
from fractions import Fraction

import torch
from torch import Tensor

from course_lib.classroom.answers import case, normal
from course_lib.exercises.training.local_learning._chapter import exercises


def _units_and_inputs():
    def given(rows, columns, d, seed=0):
        grid = torch.cartesian_prod(torch.arange(float(rows)), torch.arange(float(columns)))
        return normal(rows * columns, d, seed=seed), grid, normal(d, seed=seed + 1)

    row = torch.tensor([[0.0, 0], [0, 1], [0, 2]])
    yield case("three units in a row", torch.tensor([[0.0], [4], [10]]), row, torch.tensor([6.0]), 0.5, 1.0)
    yield case(
        "a narrower neighbourhood", torch.tensor([[0.0], [4], [10]]), row, torch.tensor([6.0]), 0.5, 0.5
    )
    near = torch.tensor([[3.0, 0], [2, 2], [9, 9]])
    yield case("two axes: the distance is Euclidean", near, row, torch.zeros(2), 0.5, 1.0)
    spread = torch.tensor([[2.0, 2, 2], [3, 0, 0], [9, 9, 9]])
    yield case("three axes: the distance is Euclidean", spread, row, torch.zeros(3), 0.5, 1.0)
    yield case("a step of 1", *given(2, 3, 2), 1.0, 0.7)
    yield case("a wide neighbourhood", *given(3, 4, 2), 0.1, 2.3)
    weights, grid, x = given(5, 2, 7, seed=2)
    yield case(
        "a long vector in the direction of the input",
        torch.cat([weights[:-1], 4 * x[None]]),
        grid,
        x,
        0.3,
        1.5,
    )
    weights, grid, x = given(2, 2, 3, seed=4)
    yield case("units that are not one apart on the grid", weights, 3 * grid, x, 0.4, 2.0)


@exercises.add(
    cases=_units_and_inputs,
    see=lambda result: result.detach() if isinstance(result, Tensor) else result,
    hints=(
        "First the number c of the winner, then the squared distances of all places to positions[c]: (u) numbers.",
        "share = lr * exp(-squared / (2 sigma ** 2)) is (u); share[:, None] multiplies the rows of x - weights.",
    ),
)
def my_som_update(weights, positions, x, lr, sigma):
    winner = int(torch.cdist(weights, x[None])[:, 0].argmin())
    rows = []
    for w, r in zip(weights, positions, strict=True):
        share = lr * math.exp(-sum((r - positions[winner]).tolist()[i] ** 2 for i in (0, 1)) / (2 * sigma**2))
        rows.append((1 - share) * w + share * x)
    return torch.stack(rows)


@my_som_update.mistakes(
    neighbours_in_input_space="Who is a neighbour is decided on the grid, by positions, not by how similar the vectors are.",
    as_the_winner="Each unit goes a share of its own way, x minus its own vector; all of yours go the winner's way.",
    width_not_squared="The width enters squared: look at the exponent again.",
    distance_not_squared="The exponent has the squared distance on the grid; yours is not squared.",
    two_forgotten="Your neighbourhood is too narrow: something stands below the fraction, beside the squared width.",
    multiplied_by_width="You multiply with the squared width where you should divide: mind the brackets in the exponent.",
    grows_with_distance="Your shares grow with the distance to the winner: what about the sign in the exponent?",
    only_the_winner="Only the winner has moved. Its neighbours on the grid go along, by smaller shares.",
    largest_product="The largest inner product wins in your map. Long vectors have it without being near.",
    no_step="Your result does not depend on the step lr; every share has it as a factor.",
    shift_only="This is how far the units move. Return where they are afterwards.",
)
@my_som_update.mistakes(
    city_block="The unit with the smallest sum of absolute differences wins in your map: that is not the Euclidean distance.",
    largest_entry="You compare the largest absolute difference of an entry: that is not the Euclidean distance.",
    farthest_wins="The farthest unit wins in your map; it should be the nearest.",
    moves_away="Your units move away from the input: their way is x minus w.",
    winner_left_out="The winner itself moves too, by the full step: its distance to itself is 0.",
    shares_add_up="Your shares add up to the step (a softmax?). Each unit has its own share, whatever the others do.",
    mean_on_grid="The squared distance on the grid is a sum over the two axes; yours is their mean.",
    step_in_exponent="The step lr stands in front of the exponential, not in the exponent.",
    density="You divide by the area under the bell. In the formula the winner goes the full step.",
)
def _(weights, positions, x, lr, sigma, *, wrong):
    gap = weights - x
    distance = (
        -(weights @ x)
        if wrong.largest_product
        else gap.abs().sum(-1)
        if wrong.city_block
        else gap.abs().amax(-1)
        if wrong.largest_entry
        else gap.square().sum(-1)
    )
    winner = distance.argmax() if wrong.farthest_wins else distance.argmin()
    places = weights if wrong.neighbours_in_input_space else positions
    squared = (places - places[winner]).square().sum(-1)
    if wrong.mean_on_grid:
        squared = squared / positions.shape[-1]
    if wrong.distance_not_squared:
        squared = squared.sqrt()
    width = sigma ** (1 if wrong.width_not_squared else 2)
    exponent = (
        squared / width / (1 if wrong.two_forgotten else 2) * (width**2 if wrong.multiplied_by_width else 1)
    )
    if wrong.grows_with_distance:
        exponent = -exponent
    step = 1 if wrong.no_step or wrong.step_in_exponent else lr
    share = step * torch.exp(-exponent * (lr if wrong.step_in_exponent else 1))
    if wrong.shares_add_up:
        share = step * (-exponent).softmax(0)
    if wrong.density:
        share = share / (sigma * math.sqrt(2 * math.pi))
    if wrong.winner_left_out:
        share = share.masked_fill(torch.arange(len(weights)) == winner, 0.0)
    if wrong.only_the_winner:
        share = torch.where(torch.arange(len(weights)) == winner, share, 0.0)
    way = (x - weights[winner]).expand_as(weights) if wrong.as_the_winner else x - weights
    shift = share[:, None] * (-way if wrong.moves_away else way)
    return shift if wrong.shift_only else weights + shift


@exercises.add(
    cases=[
        case("one copy: the last layer", 0, 4, 1),
        case("thirds of the way", 0, 10, 3),
        case("from the middle", 2, 9, 3),
        case("not whole: rounded", 1, 9, 3),
        case("a half, down to the even number", 0, 6, 2),
        case("a half, up to the even number", 0, 8, 2),
        case("another half, down to the even number", 0, 10, 2),
        case("just as many follow", 3, 6, 2),
        case("fewer follow", 5, 8, 4),
        case("nobody follows", 4, 5, 2),
        case("a deep network", 4, 56, 9),
    ],
    hints=(
        "range(1, depth + 1) are the numbers i; range(l + 1, num_layers) are the layers that follow.",
        "Two cases: if depth >= num_layers - l - 1, the list of all that follow; else one rounded number for each i.",
    ),
)
def my_auxiliary_layers(l, num_layers, depth):
    following = [n for n in range(num_layers) if n > l]
    if len(following) <= depth:
        return following
    return [round(l + Fraction(len(following) * i, depth)) for i in range(1, depth + 1)]


@my_auxiliary_layers.mistakes(
    cuts_off="You cut off what stands behind the point (int, //); the numbers are rounded to the nearest.",
    rounds_up="You round up; the numbers are rounded to the nearest.",
    half_up="Your halves all go up. Python's round takes a half to the even neighbour.",
    repeats="Near the end a layer comes twice: what if no more than d layers follow?",
    next_layers="These are simply the next layers. The judge should reach the end of the network.",
    from_zero="i runs from 1 to d: the layer itself is no judge, and the last layer always is.",
    itself_too="The layer itself is in your list; it is judged by those that come after it.",
    own_place_forgotten="You count from the beginning of the network. The copies lie behind layer l.",
    one_too_far="Your last copy does not exist: L layers have the numbers 0 to L - 1.",
)
@my_auxiliary_layers.mistakes(
    rounded_early="You round the distance between two copies, and then take it several times. Round at the very end.",
    itself_when_few="Where few layers follow, your list begins with the layer itself.",
    one_short="One copy is missing at the end: i = d belongs to it.",
    last_missing_when_few="Where few layers follow, the last one is missing in your list.",
    no_round="Numbers of layers are whole: round them.",
    starts_one_later="Your way begins at l + 1. The formula begins at l, and i = 1 is the first step of it.",
    evenly_between="You divide the way from layer l + 1 to the last one. The formula divides the way from l, and leaves out l.",
    no_copies_when_few="Where no more than d layers follow, all of them are copied.",
)
def _(l, num_layers, depth, *, wrong):
    later = num_layers - l - 1
    first = l if wrong.itself_too or wrong.itself_when_few else l + 1
    if wrong.next_layers:
        return list(range(first, min(l + 1 + depth, num_layers)))
    if depth >= later and not wrong.repeats:
        return (
            [] if wrong.no_copies_when_few else list(range(first, num_layers - wrong.last_missing_when_few))
        )
    if wrong.evenly_between:
        return [round(l + 1 + (later - 1) * i / max(depth - 1, 1)) for i in range(depth)]
    start, end = (0 if wrong.from_zero else 1), depth + 1 - (wrong.from_zero or wrong.one_short)
    way = later + wrong.one_too_far
    to_int = {
        wrong.cuts_off: math.floor,
        wrong.rounds_up: math.ceil,
        wrong.half_up: lambda n: math.floor(n + 0.5),
        wrong.no_round: float,
    }.get(True, round)
    base = 0 if wrong.own_place_forgotten else l + wrong.starts_one_later
    if wrong.rounded_early:
        return [base + round(way / depth) * i for i in range(start, end)]
    found = [to_int(base + way * i / depth) for i in range(start, end)]
    return [l, *found] if wrong.itself_too else found


@exercises.add(
    cases=[
        case("the first module has all d", 0, 5, 3, 1.0),
        case("tau = 1: the last judge has one copy", 3, 5, 3, 1.0),
        case("tau = 0: nothing falls", 3, 5, 3, 0.0),
        case("tau = 0.5: half of the way", 4, 6, 9, 0.5),
        case("not whole: rounded down", 1, 5, 6, 1.0),
        case("not whole: rounded up", 2, 5, 6, 1.0),
        case("a half, down to the even number", 1, 4, 4, 1.0),
        case("a half, up to the even number", 1, 4, 6, 1.0),
        case("another half, down to the even number", 1, 3, 8, 0.5),
        case("a single copy stays one", 2, 6, 1, 0.7),
        case("few modules", 1, 3, 5, 0.5),
        case("many modules", 7, 30, 9, 0.8),
    ],
    hints=(
        "f is 0 at the first module and tau at the last one that has a judge, l = M - 2.",
        "round(depth * (1 - f) + f): at f = 1 one copy is left.",
    ),
)
def my_pyramid_depth(l, num_modules, depth, tau):
    share = Fraction(tau).limit_denominator(1000) * Fraction(l, num_modules - 2)
    return round(depth - (depth - 1) * share)


@my_pyramid_depth.mistakes(
    cuts_off="You cut off what stands behind the point; the number is rounded to the nearest.",
    half_up="Your halves all go up. Python's round takes a half to the even neighbour.",
    no_round="A number of copies is whole: round it.",
    last_term_missing="With f = 1 one copy should be left, not none: a term is missing.",
    by_all_modules="The last l is M - 2, and there f should have reached tau: look at the denominator.",
    by_one_less="The last module has no judge: count again what stands below the fraction.",
    falls_all_the_way="Your number falls all the way to one, whatever tau is.",
    counts_from_one="The modules are numbered from 0: at l = 0 nothing has fallen yet.",
    precedence="Mind the brackets: M - 2 stands below the fraction as a whole.",
)
@my_pyramid_depth.mistakes(
    rounds_up="You round up; the number is rounded to the nearest.",
    rises="Your number rises from one to d. The first layers need most of the future.",
    no_brackets="Mind the brackets: M - 2 stands below the fraction as a whole, and f is one number.",
    tau_for_f="The last term is f, not tau.",
    at_least_one="You keep one copy by force (max). With f = 1 the formula itself should leave one: a term is missing.",
    adds_one="The last term is f, not 1: at f = 0 there are d copies, not d + 1.",
    shifted="The modules are numbered from 0, and the last one with a judge is M - 2: there f is tau, at l = 0 it is 0.",
    whole_share="f is a fraction: // cuts it off.",
    both_fall="The last term is f, not 1 - f.",
    negative="f itself is subtracted in your answer; it is added.",
)
def _(l, num_modules, depth, tau, *, wrong):
    below = num_modules - (0 if wrong.by_all_modules else 1 if wrong.by_one_less else 2)
    f = (1 if wrong.falls_all_the_way else tau) * (l + wrong.counts_from_one) / below
    if wrong.shifted:
        f = tau * (l + 1) / (num_modules - 1)
    if wrong.whole_share:
        f = tau * l // below
    if wrong.precedence:
        f = tau * l / num_modules - 2
    terms = {
        wrong.last_term_missing or wrong.at_least_one: 0,
        wrong.tau_for_f: tau,
        wrong.adds_one: 1,
        wrong.both_fall: 1 - f,
    }
    last = terms.get(True, f)
    exact = depth * (1 - f) + (-last if wrong.negative else last)
    if wrong.no_brackets:
        exact = depth * (1 - tau * l / num_modules - 2) + tau * l / num_modules - 2
    if wrong.rises:
        exact = depth * f + 1 - f
    if wrong.at_least_one:
        exact = max(1, exact)
    if wrong.no_round:
        return exact
    return {
        wrong.cuts_off: math.floor,
        wrong.rounds_up: math.ceil,
        wrong.half_up: lambda n: math.floor(n + 0.5),
    }.get(True, round)(exact)
