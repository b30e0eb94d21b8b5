"""Answers to the exercises on learning without a global backward pass."""

import itertools
import math

import torch
from torch.nn import functional as F

from tests.exercises.corpus import Corpus

corpus = Corpus("training/local_learning")
right, wrong = corpus.right, corpus.wrong


# ------------------------------------------------------------------------------------- my_som_update


def winner_of(weights, x):
    return (weights - x).square().sum(-1).argmin()


def on_grid(positions, winner):
    return (positions - positions[winner]).square().sum(-1)


@right("my_som_update")
def by_cdist(weights, positions, x, lr, sigma):
    c = torch.cdist(x[None], weights).argmin()
    d = torch.cdist(positions, positions[c][None])[:, 0]
    return weights + lr * torch.exp(-(d**2) / (2 * sigma**2))[:, None] * (x - weights)


@right("my_som_update")
def unit_by_unit(w, r, x, lr, sigma):
    c = min(range(len(w)), key=lambda i: float((w[i] - x).norm()))
    new = w.clone()
    for i in range(len(w)):
        h = math.exp(-float(((r[i] - r[c]) ** 2).sum()) / 2 / sigma**2)
        new[i] = w[i] + lr * h * (x - w[i])
    return new


@right("my_som_update")
def by_lerp(weights, positions, x, lr, sigma):
    d = on_grid(positions, winner_of(weights, x))
    return torch.lerp(weights, x.expand_as(weights), (lr * torch.exp(-d / (2 * sigma**2))).unsqueeze(1))


@right("my_som_update")
def in_single_precision(weights, positions, x, lr, sigma):
    weights, x = weights.float(), x.float()
    h = lr * torch.exp(-on_grid(positions.float(), winner_of(weights, x)) / (2 * sigma**2))
    return weights + torch.einsum("u,ud->ud", h, x - weights)


@right("my_som_update")
def product_without_square(weights, positions, x, lr, sigma):
    winner = (weights @ x - weights.square().sum(-1) / 2).argmax()  # the same winner
    z = (positions - positions[winner]) / sigma
    return weights + lr * torch.exp(-0.5 * z.pow(2).sum(-1, keepdim=True)) * (x - weights)


@wrong("my_som_update", "width_not_squared")
def width_once(weights, positions, x, lr, sigma):
    d = on_grid(positions, winner_of(weights, x))
    return weights + lr * torch.exp(-d / (2 * sigma)).unsqueeze(-1) * (x - weights)


@wrong("my_som_update", "distance_not_squared")
def plain_distance(weights, positions, x, lr, sigma):
    c = torch.cdist(weights, x[None]).argmin()
    d = torch.linalg.norm(positions - positions[c], dim=-1)
    return weights + lr * torch.exp(-d / (2 * sigma**2))[:, None] * (x - weights)


@wrong("my_som_update", "neighbours_in_input_space")
def similar_units(weights, positions, x, lr, sigma):
    c = winner_of(weights, x)
    d = ((weights - weights[c]) ** 2).sum(-1)
    return weights + lr * torch.exp(-d / (2 * sigma**2))[:, None] * (x - weights)


@wrong("my_som_update", "as_the_winner")
def one_shift(weights, positions, x, lr, sigma):
    c = winner_of(weights, x)
    h = torch.exp(-on_grid(positions, c) / (2 * sigma**2))
    return weights + lr * h[:, None] * (x - weights[c])


@wrong("my_som_update", "largest_product")
def dot_product_winner(weights, positions, x, lr, sigma):
    h = torch.exp(-on_grid(positions, (weights @ x).argmax()) / (2 * sigma**2))
    return weights + lr * h[:, None] * (x - weights)


@wrong("my_som_update", "city_block")
def l1_winner(weights, positions, x, lr, sigma):
    h = torch.exp(-on_grid(positions, (weights - x).abs().sum(1).argmin()) / (2 * sigma**2))
    return weights + lr * h[:, None] * (x - weights)


@wrong("my_som_update", "largest_entry")
def chebyshev_winner(weights, positions, x, lr, sigma):
    h = torch.exp(-on_grid(positions, (weights - x).abs().amax(1).argmin()) / (2 * sigma**2))
    return weights + lr * h[:, None] * (x - weights)


@wrong("my_som_update", "farthest_wins")
def argmax_for_argmin(weights, positions, x, lr, sigma):
    h = torch.exp(-on_grid(positions, (weights - x).norm(dim=1).argmax()) / (2 * sigma**2))
    return weights + lr * h[:, None] * (x - weights)


@wrong("my_som_update", "only_the_winner")
def k_means(weights, positions, x, lr, sigma):
    new = weights.clone()
    c = winner_of(weights, x)
    new[c] = weights[c] + lr * (x - weights[c])
    return new


@wrong("my_som_update", "two_forgotten")
def without_two(weights, positions, x, lr, sigma):
    h = torch.exp(-on_grid(positions, winner_of(weights, x)) / sigma**2)
    return weights + lr * h[:, None] * (x - weights)


@wrong("my_som_update", "multiplied_by_width")
def precedence(weights, positions, x, lr, sigma):
    h = torch.exp(-on_grid(positions, winner_of(weights, x)) / 2 * sigma**2)
    return weights + lr * h[:, None] * (x - weights)


@wrong("my_som_update", "moves_away")
def away(weights, positions, x, lr, sigma):
    h = torch.exp(-on_grid(positions, winner_of(weights, x)) / (2 * sigma**2))
    return weights + lr * h[:, None] * (weights - x)


@wrong("my_som_update", "no_step")
def without_lr(weights, positions, x, lr, sigma):
    h = torch.exp(-on_grid(positions, winner_of(weights, x)) / (2 * sigma**2))
    return weights + h[:, None] * (x - weights)


@wrong("my_som_update", "shift_only")
def the_shift(weights, positions, x, lr, sigma):
    h = lr * torch.exp(-on_grid(positions, winner_of(weights, x)) / (2 * sigma**2))
    return h[:, None] * (x - weights)


@wrong("my_som_update", "in place")
def in_place(weights, positions, x, lr, sigma):
    h = torch.exp(-on_grid(positions, winner_of(weights, x)) / (2 * sigma**2))
    weights += lr * h[:, None] * (x - weights)
    return weights


@wrong("my_som_update", "exception")
def no_axis_added(weights, positions, x, lr, sigma):
    h = torch.exp(-on_grid(positions, winner_of(weights, x)) / (2 * sigma**2))
    return weights + lr * h * (x - weights)


@wrong("my_som_update", "grows_with_distance")
def minus_forgotten(weights, positions, x, lr, sigma):
    h = torch.exp(on_grid(positions, winner_of(weights, x)) / (2 * sigma**2))
    return weights + lr * h[:, None] * (x - weights)


@wrong("my_som_update", "two_forgotten", "width_not_squared")  # both
def two_mistakes(weights, positions, x, lr, sigma):
    h = torch.exp(-on_grid(positions, winner_of(weights, x)) / sigma)
    return weights + lr * h[:, None] * (x - weights)


@wrong("my_som_update", "two_forgotten")
def root_two_kept(weights, positions, x, lr, sigma):
    z = (positions - positions[winner_of(weights, x)]) / sigma
    return weights + lr * torch.exp(-(z**2).sum(-1))[:, None] * (x - weights)


@wrong("my_som_update", "mean_on_grid")
def mse_on_grid(weights, positions, x, lr, sigma):
    d = ((positions - positions[winner_of(weights, x)]) ** 2).mean(-1)
    return weights + lr * torch.exp(-d / (2 * sigma**2))[:, None] * (x - weights)


@wrong("my_som_update", "step_in_exponent")
def lr_inside(weights, positions, x, lr, sigma):
    d = on_grid(positions, winner_of(weights, x))
    return weights + torch.exp(-lr * d / (2 * sigma**2))[:, None] * (x - weights)


@wrong("my_som_update", "shares_add_up")
def softmax_shares(weights, positions, x, lr, sigma):
    d = on_grid(positions, winner_of(weights, x))
    return weights + lr * (-d / (2 * sigma**2)).softmax(0)[:, None] * (x - weights)


@wrong("my_som_update", "density")
def gaussian_density(weights, positions, x, lr, sigma):
    d = on_grid(positions, winner_of(weights, x))
    h = torch.exp(-d / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
    return weights + lr * h[:, None] * (x - weights)


@wrong("my_som_update", "winner_left_out")
def neighbours_only(weights, positions, x, lr, sigma):
    c = winner_of(weights, x)
    h = torch.exp(-on_grid(positions, c) / (2 * sigma**2))
    h[c] = 0
    return weights + lr * h[:, None] * (x - weights)


# ------------------------------------------------------------------------------- my_auxiliary_layers


@right("my_auxiliary_layers")
def shortest(l, L, d):
    n = L - 1 - l
    return [*range(l + 1, L)] if d >= n else [round(l + n / d * i) for i in range(1, d + 1)]


@right("my_auxiliary_layers")
def by_loop(l, num_layers, depth):
    result = []
    depth = min(depth, num_layers - l - 1)
    for i in range(1, depth + 1):
        result.append(round(l + (num_layers - l - 1) * i / depth))
    return result


@right("my_auxiliary_layers")
def by_tensor(l, num_layers, depth):
    i = torch.arange(1, min(depth, num_layers - l - 1) + 1)
    return (l + (num_layers - l - 1) * i / max(len(i), 1)).round().long().tolist()


@right("my_auxiliary_layers")
def as_tuple(l, num_layers, depth):
    depth = min(depth, num_layers - l - 1)
    return tuple(round(l + (num_layers - l - 1) * (i + 1) / depth) for i in range(depth))


@right("my_auxiliary_layers")
def early_return(l, num_layers, depth):
    if l + depth >= num_layers - 1:
        return list(range(num_layers))[l + 1 :]
    return [round(l + i * (num_layers - l - 1) / depth) for i in range(depth + 1)][1:]


@wrong("my_auxiliary_layers", "cuts_off")
def floor_division(l, num_layers, depth):
    later = num_layers - l - 1
    if later <= depth:
        return list(range(l + 1, num_layers))
    return [l + later * i // depth for i in range(1, depth + 1)]


@wrong("my_auxiliary_layers", "repeats")
def no_cap(l, num_layers, depth):
    return [round(l + (num_layers - l - 1) * i / depth) for i in range(1, depth + 1)]


@wrong("my_auxiliary_layers", "from_zero")
def i_from_zero(l, num_layers, depth):
    later = num_layers - l - 1
    if later <= depth:
        return list(range(l + 1, num_layers))
    return [round(l + later * i / depth) for i in range(depth)]


@wrong("my_auxiliary_layers", "next_layers")
def the_next(l, num_layers, depth):
    return list(range(l + 1, min(l + 1 + depth, num_layers)))


@wrong("my_auxiliary_layers", "half_up")
def school_rounding(l, num_layers, depth):
    later = num_layers - l - 1
    if later <= depth:
        return list(range(l + 1, num_layers))
    return [math.floor(l + later * i / depth + 0.5) for i in range(1, depth + 1)]


@wrong("my_auxiliary_layers", "rounds_up")
def ceiling(l, num_layers, depth):
    later = num_layers - l - 1
    if later <= depth:
        return list(range(l + 1, num_layers))
    return [math.ceil(l + later * i / depth) for i in range(1, depth + 1)]


@wrong("my_auxiliary_layers", "own_place_forgotten")
def not_from_l(l, num_layers, depth):
    later = num_layers - l - 1
    if later <= depth:
        return list(range(l + 1, num_layers))
    return [round(later * i / depth) for i in range(1, depth + 1)]


@wrong("my_auxiliary_layers", "one_too_far")
def to_num_layers(l, num_layers, depth):
    later = num_layers - l
    if later - 1 <= depth:
        return list(range(l + 1, num_layers))
    return [round(l + later * i / depth) for i in range(1, depth + 1)]


@wrong("my_auxiliary_layers", "one_short")
def without_the_last(l, num_layers, depth):
    later = num_layers - l - 1
    if later <= depth:
        return list(range(l + 1, num_layers))
    return [round(l + later * i / depth) for i in range(1, depth)]


@wrong("my_auxiliary_layers", "itself_too")
def a_set(l, num_layers, depth):
    return sorted({round(l + (num_layers - l - 1) * i / depth) for i in range(depth + 1)})


@wrong("my_auxiliary_layers", "itself_when_few")
def includes_itself(l, num_layers, depth):
    if num_layers - l - 1 <= depth:
        return list(range(l, num_layers))
    return [round(l + (num_layers - l - 1) * i / depth) for i in range(1, depth + 1)]


@wrong("my_auxiliary_layers", "type")
def a_tensor(l, num_layers, depth):
    steps = torch.linspace(l, num_layers - 1, min(depth, num_layers - l - 1) + 1)
    return steps[1:].round().long()


@wrong("my_auxiliary_layers", "rounded_early")
def rounded_steps(l, num_layers, depth):
    later = num_layers - l - 1
    if later <= depth:
        return list(range(l + 1, num_layers))
    return [l + round(later / depth) * i for i in range(1, depth + 1)]


@wrong("my_auxiliary_layers", "exception")
def empty_range(l, num_layers, depth):
    later = num_layers - l - 1
    return [l + round(later * i / min(depth, later)) for i in range(1, depth + 1)]


@wrong("my_auxiliary_layers", "cuts_off")
def int_of_division(l, num_layers, depth):
    n = num_layers - l - 1
    return (
        list(range(l + 1, num_layers))
        if depth >= n
        else [int(l + n * i / depth) for i in range(1, depth + 1)]
    )


@wrong("my_auxiliary_layers", "one_short")
def range_to_depth(l, num_layers, depth):
    n = num_layers - l - 1
    return (
        list(range(l + 1, num_layers)) if depth >= n else [round(l + n * i / depth) for i in range(1, depth)]
    )


@wrong("my_auxiliary_layers", "ignored l", "how num_layers enters")
def share_of_the_network(l, num_layers, depth):
    n = num_layers - l - 1
    share = [round((num_layers - 1) * i / depth) for i in range(1, depth + 1)]
    return list(range(l + 1, num_layers)) if depth >= n else share


@wrong("my_som_update", "ignored x", "mixes")
def towards_the_winner(weights, positions, x, lr, sigma):
    c = winner_of(weights, x)
    h = torch.exp(-on_grid(positions, c) / (2 * sigma**2))
    return weights + lr * h[:, None] * (weights[c] - weights)


@wrong("my_auxiliary_layers", "last_missing_when_few")
def range_too_short(l, num_layers, depth):
    n = num_layers - l - 1
    return (
        list(range(l + 1, num_layers - 1))
        if depth >= n
        else [round(l + n * i / depth) for i in range(1, depth + 1)]
    )


@wrong("my_auxiliary_layers", "no_round")
def floats(l, num_layers, depth):
    n = num_layers - l - 1
    return list(range(l + 1, num_layers)) if depth >= n else [l + n * i / depth for i in range(1, depth + 1)]


@wrong("my_auxiliary_layers", "starts_one_later")
def from_l_plus_one(l, num_layers, depth):
    n = num_layers - l - 1
    return (
        list(range(l + 1, num_layers))
        if depth >= n
        else [round(l + 1 + n * i / depth) for i in range(1, depth + 1)]
    )


@wrong("my_auxiliary_layers", "evenly_between")
def linspace_from_next(l, num_layers, depth):
    n = num_layers - l - 1
    return (
        list(range(l + 1, num_layers))
        if depth >= n
        else torch.linspace(l + 1, num_layers - 1, depth).round().long().tolist()
    )


# ---------------------------------------------------------------------------------- my_pyramid_depth


@right("my_pyramid_depth")
def straight(l, num_modules, depth, tau):
    f = tau * l / (num_modules - 2)
    return max(1, round(depth * (1 - f) + f))


@right("my_pyramid_depth")
def line(l, M, d, t):
    return round(d - (d - 1) * t * l / (M - 2))


@right("my_pyramid_depth")
def interpolated(l, num_modules, depth, tau):
    share = l / (num_modules - 2) * tau
    return round((1 - share) * depth + share * 1)


@right("my_pyramid_depth")
def with_torch(l, num_modules, depth, tau):
    f = torch.tensor(tau * l / (num_modules - 2))
    return torch.lerp(torch.tensor(float(depth)), torch.tensor(1.0), f).round().int().item()


@right("my_pyramid_depth")
def whole_float(l, num_modules, depth, tau):
    f = tau * (l / (num_modules - 2))
    return float(round(f + depth - depth * f))


@wrong("my_pyramid_depth", "cuts_off")
def as_integer(l, num_modules, depth, tau):
    f = tau * l / (num_modules - 2)
    return int(depth * (1 - f) + f)


@wrong("my_pyramid_depth", "last_term_missing")
def without_f(l, num_modules, depth, tau):
    f = tau * l / (num_modules - 2)
    return round(depth * (1 - f))


@wrong("my_pyramid_depth", "by_all_modules")
def over_m(l, num_modules, depth, tau):
    f = tau * l / num_modules
    return round(depth * (1 - f) + f)


@wrong("my_pyramid_depth", "by_one_less")
def over_m_minus_one(l, num_modules, depth, tau):
    f = tau * l / (num_modules - 1)
    return round(depth * (1 - f) + f)


@wrong("my_pyramid_depth", "no_round")
def not_rounded(l, num_modules, depth, tau):
    f = tau * l / (num_modules - 2)
    return depth * (1 - f) + f


@wrong("my_pyramid_depth", "falls_all_the_way")
def without_tau(l, num_modules, depth, tau):
    f = l / (num_modules - 2)
    return round(depth * (1 - f) + f)


@wrong("my_pyramid_depth", "rises")
def rising(l, num_modules, depth, tau):
    f = tau * l / (num_modules - 2)
    return round(depth * f + 1 - f)


@wrong("my_pyramid_depth", "counts_from_one")
def l_from_one(l, num_modules, depth, tau):
    f = tau * (l + 1) / (num_modules - 2)
    return round(depth * (1 - f) + f)


@wrong("my_pyramid_depth", "precedence")
def parentheses(l, num_modules, depth, tau):
    f = tau * l / num_modules - 2
    return round(depth * (1 - f) + f)


@wrong("my_pyramid_depth", "half_up")
def school_rounding_again(l, num_modules, depth, tau):
    f = tau * l / (num_modules - 2)
    return int(depth * (1 - f) + f + 0.5)


@wrong("my_pyramid_depth", "rounds_up")
def ceiling_again(l, num_modules, depth, tau):
    f = tau * l / (num_modules - 2)
    return math.ceil(depth * (1 - f) + f)


@wrong("my_pyramid_depth", "tau_for_f")
def tau_added(l, num_modules, depth, tau):
    f = tau * l / (num_modules - 2)
    return round(depth * (1 - f) + tau)


@wrong("my_pyramid_depth", "no_brackets")
def bracket_lost(l, num_modules, depth, tau):
    return round(depth * (1 - tau * l / num_modules - 2) + tau * l / num_modules - 2)


@wrong("my_pyramid_depth", "last_term_missing", "by_all_modules")  # both
def share_of_all_modules(l, num_modules, depth, tau):
    return round(depth * (1 - tau * l / num_modules))


@wrong("my_pyramid_depth", "cuts_off", "by_all_modules")  # both
def cut_share_of_all(l, num_modules, depth, tau):
    f = tau * l / num_modules
    return int(depth * (1 - f) + f)


@wrong("my_pyramid_depth", "at_least_one")
def max_one(l, num_modules, depth, tau):
    return max(1, round(depth * (1 - tau * l / (num_modules - 2))))


@wrong("my_pyramid_depth", "cuts_off")
def floored(l, num_modules, depth, tau):
    f = tau * l / (num_modules - 2)
    return math.floor(depth * (1 - f) + f)


@wrong("my_pyramid_depth", "whole_share")
def f_whole(l, num_modules, depth, tau):
    f = tau * l // (num_modules - 2)
    return round(depth * (1 - f) + f)


@wrong("my_pyramid_depth", "adds_one")
def plus_one(l, num_modules, depth, tau):
    f = tau * l / (num_modules - 2)
    return round(depth * (1 - f) + 1)


@wrong("my_pyramid_depth", "shifted")
def both_shifted(l, num_modules, depth, tau):
    f = tau * (l + 1) / (num_modules - 1)
    return round(depth * (1 - f) + f)


# ---------------------------------------------------------------------------------- my_probabilities


def exponents(states, weight, b, c):
    return states @ b + F.softplus(states @ weight + c).sum(-1)


@right("my_probabilities")
def by_log_softmax(states, weight, visible_bias, hidden_bias):
    return exponents(states, weight, visible_bias, hidden_bias).log_softmax(0).exp()


@right("my_probabilities")
def largest_subtracted(states, weight, visible_bias, hidden_bias):
    e = exponents(states, weight, visible_bias, hidden_bias)
    e = torch.exp(e - e.max())
    return e / e.sum()


@right("my_probabilities")
def every_hidden_state(states, weight, visible_bias, hidden_bias):
    hidden = torch.tensor(list(itertools.product([0.0, 1.0], repeat=len(hidden_bias))))
    energy = states @ weight @ hidden.T + (states @ visible_bias)[:, None] + hidden @ hidden_bias
    return energy.flatten().softmax(0).view(energy.shape).sum(1)


@right("my_probabilities")
def row_by_row(states, W, b, c):
    e = []
    for v in states:
        total = torch.dot(b, v)
        for j in range(len(c)):
            total = total + torch.logaddexp(torch.zeros(()), c[j] + torch.dot(v, W[:, j]))
        e.append(total)
    return torch.stack(e).softmax(0)


@right("my_probabilities")
def in_float32(states, weight, visible_bias, hidden_bias):
    return exponents(*(x.float() for x in (states, weight, visible_bias, hidden_bias))).softmax(-1)


@right("my_probabilities")
def by_logsigmoid(states, weight, visible_bias, hidden_bias):
    free = -(states @ visible_bias) + F.logsigmoid(-(states @ weight + hidden_bias)).sum(1)
    return torch.exp(-free - torch.logsumexp(-free, 0))


@wrong("my_probabilities", "overflow")
def plain_exponentials(states, weight, visible_bias, hidden_bias):
    p = torch.exp(states @ visible_bias) * (1 + torch.exp(states @ weight + hidden_bias)).prod(-1)
    return p / p.sum()


@wrong("my_probabilities", "overflow")
def log_of_one_plus_exp(states, weight, visible_bias, hidden_bias):
    below = torch.log(1 + torch.exp(hidden_bias + states @ weight)).sum(-1)
    return torch.softmax(states @ visible_bias + below, 0)


@wrong("my_probabilities", "upside_down")
def sign_of_energy(states, weight, visible_bias, hidden_bias):
    return torch.softmax(-exponents(states, weight, visible_bias, hidden_bias), 0)


@wrong("my_probabilities", "not_normalised")
def not_divided(states, weight, visible_bias, hidden_bias):
    return exponents(states, weight, visible_bias, hidden_bias).exp()


@wrong("my_probabilities", "overflow")
def large_numbers_divided(states, weight, visible_bias, hidden_bias):
    e = exponents(states, weight, visible_bias, hidden_bias).exp()
    return e / e.sum()


@wrong("my_probabilities", "no_hidden_bias")
def c_forgotten(states, weight, visible_bias, hidden_bias):
    return (states @ visible_bias + F.softplus(states @ weight).sum(-1)).softmax(-1)


@wrong("my_probabilities", "no_visible_bias")
def b_forgotten(states, weight, visible_bias, hidden_bias):
    return F.softplus(states @ weight + hidden_bias).sum(-1).softmax(-1)


@wrong("my_probabilities", "relu")
def only_the_best_hidden(states, weight, visible_bias, hidden_bias):
    return (states @ visible_bias + (states @ weight + hidden_bias).relu().sum(-1)).softmax(-1)


@wrong("my_probabilities", "sum_inside")
def softplus_of_sum(states, weight, visible_bias, hidden_bias):
    return (states @ visible_bias + F.softplus((states @ weight + hidden_bias).sum(-1))).softmax(-1)


@wrong("my_probabilities", "log_probabilities")
def log_probabilities(states, weight, visible_bias, hidden_bias):
    return exponents(states, weight, visible_bias, hidden_bias).log_softmax(-1)


@wrong("my_probabilities", "mean_of_hidden")
def averaged(states, weight, visible_bias, hidden_bias):
    return (states @ visible_bias + F.softplus(states @ weight + hidden_bias).mean(-1)).softmax(-1)


@wrong("my_probabilities", "all_hidden_on")
def hidden_not_summed(states, weight, visible_bias, hidden_bias):
    return (states @ visible_bias + (states @ weight + hidden_bias).sum(-1)).softmax(-1)


@wrong("my_probabilities", "expected_energy")
def hidden_means(states, weight, visible_bias, hidden_bias):
    h = torch.sigmoid(states @ weight + hidden_bias)
    return (states @ visible_bias + h @ hidden_bias + ((states @ weight) * h).sum(-1)).softmax(-1)


@wrong("my_probabilities", "axis left")
def sum_forgotten(states, weight, visible_bias, hidden_bias):
    return ((states @ visible_bias)[:, None] + F.softplus(states @ weight + hidden_bias)).softmax(0)


@wrong("my_probabilities", "exception")
def turned_weight(states, weight, visible_bias, hidden_bias):
    return (states @ visible_bias + F.softplus(states @ weight.T + hidden_bias).sum(-1)).softmax(0)


@wrong("my_probabilities", "visible_bias_negative")
def b_from_the_energy(states, weight, visible_bias, hidden_bias):
    return (-states @ visible_bias + F.softplus(states @ weight + hidden_bias).sum(-1)).softmax(0)


@wrong("my_probabilities", "exponents_only")
def free_energies(states, weight, visible_bias, hidden_bias):
    return -exponents(states, weight, visible_bias, hidden_bias)


@wrong("my_probabilities", "no_hidden_bias", "no_visible_bias")  # both
def no_bias_at_all(states, weight, visible_bias, hidden_bias):
    return F.softplus(states @ weight).sum(-1).softmax(0)


@wrong("my_probabilities", "by_sigmoid")
def sigmoid_of_energy(states, weight, visible_bias, hidden_bias):
    return torch.sigmoid(exponents(states, weight, visible_bias, hidden_bias))


@wrong("my_probabilities", "value")
def softmax_wrong_axis(states, weight, visible_bias, hidden_bias):
    e = (states @ visible_bias)[:, None] + F.softplus(states @ weight + hidden_bias)
    return e.sum(-1, keepdim=True).softmax(-1).squeeze(-1)


@wrong("my_probabilities", "b_for_each_hidden")
def b_counted_for_each_hidden(states, weight, visible_bias, hidden_bias):
    e = (states @ visible_bias)[:, None] + F.softplus(states @ weight + hidden_bias)
    return e.sum(-1).softmax(0)


@wrong("my_probabilities", "no_hidden_bias")
def c_outside(states, weight, visible_bias, hidden_bias):
    return (states @ visible_bias + F.softplus(states @ weight).sum(-1) + hidden_bias.sum()).softmax(0)


@wrong("my_probabilities", "hidden_negative")
def free_energy_sign_half(states, weight, visible_bias, hidden_bias):
    return (states @ visible_bias - F.softplus(states @ weight + hidden_bias).sum(-1)).softmax(0)


@wrong("my_probabilities", "positive_exponents")
def minus_f(states, weight, visible_bias, hidden_bias):
    return exponents(states, weight, visible_bias, hidden_bias)


@wrong("my_probabilities", "no_exponential")
def free_energies_normalised(states, weight, visible_bias, hidden_bias):
    e = exponents(states, weight, visible_bias, hidden_bias)
    return e / e.sum()


# ---------------------------------------------------------------------------------- my_blind_machine


@right("my_blind_machine")
def by_bias():
    return torch.diag(torch.tensor([20.0, 20.0])), torch.tensor([-15.0, -15]), torch.tensor([-10.0, -10])


@right("my_blind_machine")
def more_hidden_units():
    weight = torch.tensor([[10.0, 10, 0, 0], [0, 0, 10, 10]])
    return weight, torch.tensor([-15.0, -15]), torch.full((4,), -5.0)


@right("my_blind_machine")
def both_on_preferred():
    return torch.tensor([[20.0, 0], [0, 20]]), torch.tensor([-5.0, -5]), torch.tensor([-10.0, -10])


@wrong("my_blind_machine", "value")
def good_and_honest():
    return torch.tensor([[20.0, 0], [0, 20]]), torch.full((2,), -10.0), torch.full((2,), -10.0)


@wrong("my_blind_machine", "value")
def nothing_learnt():
    return torch.zeros(2, 3), torch.zeros(2), torch.zeros(3)


@wrong("my_blind_machine", "value")
def improbable_and_forgotten():
    return torch.zeros(2, 1), torch.full((2,), -9.0), torch.zeros(1)


@wrong("my_blind_machine", "value")
def two_results():
    return torch.eye(2), torch.zeros(2)


@wrong("my_blind_machine", "value")
def turned_shape():
    return torch.zeros(3, 2), torch.zeros(3), torch.zeros(2)


@wrong("my_blind_machine", "value")
def not_finite():
    return torch.full((2, 2), math.inf), torch.zeros(2), torch.zeros(2)


# ---------------------------------------------------------------------------------------- my_ff_loss


@right("my_ff_loss")
def by_logsigmoid_too(goodness, gamma, theta, positive):
    sign = 1 if positive else -1
    return -F.logsigmoid(sign * (goodness + gamma.detach() - theta)).mean()


@right("my_ff_loss")
def by_bce(goodness, gamma, theta, positive):
    margin = goodness + gamma.detach() - theta
    target = torch.ones_like(margin) if positive else torch.zeros_like(margin)
    return F.binary_cross_entropy_with_logits(margin, target)


@right("my_ff_loss")
def by_logaddexp(g, others, threshold, good):
    with torch.no_grad():
        rest = others - threshold
    m = g + rest
    return torch.logaddexp(torch.zeros_like(m), -m if good else m).mean()


@right("my_ff_loss")
def sample_by_sample(goodness, gamma, theta, positive):
    total = 0.0
    for g, o in zip(goodness, gamma.detach(), strict=True):
        total = total + F.softplus(theta - g - o if positive else g + o - theta)
    return total / len(goodness)


@right("my_ff_loss")
def single(goodness, gamma, theta, positive):
    margin = goodness.float() + gamma.detach().float() - theta
    return F.softplus(-margin if positive else margin).mean()


@right("my_ff_loss")
def by_cases(goodness, gamma, theta, positive):
    m = (goodness + gamma.data - theta) * (-1 if positive else 1)
    return (m.clamp(min=0) + torch.log1p(torch.exp(-m.abs()))).mean()


@wrong("my_ff_loss", "overflow")
def as_written(goodness, gamma, theta, positive):
    p = torch.sigmoid(goodness + gamma.detach() - theta)
    return (-torch.log(p)).mean() if positive else (-torch.log(1 - p)).mean()


@wrong("my_ff_loss", "gradient_through_gamma")
def not_detached(goodness, gamma, theta, positive):
    m = goodness + gamma - theta
    return F.softplus(-m).mean() if positive else F.softplus(m).mean()


@wrong("my_ff_loss", "same_for_both")
def positive_unused(goodness, gamma, theta, positive):
    return F.softplus(theta - goodness - gamma.detach()).mean()


@wrong("my_ff_loss", "overflow")
def log_one_plus_exp(goodness, gamma, theta, positive):
    m = goodness + gamma.detach() - theta
    return torch.log(1 + torch.exp(-m if positive else m)).mean()


@wrong("my_ff_loss", "cut_off at 1e-12")
def with_epsilon(goodness, gamma, theta, positive):
    p = torch.sigmoid(goodness + gamma.detach() - theta)
    return -torch.log((p if positive else 1 - p) + 1e-12).mean()


@wrong("my_ff_loss", "cut_off at 1e-07")
def clamped(goodness, gamma, theta, positive):
    p = torch.sigmoid(goodness + gamma.detach() - theta).clamp(1e-7, 1 - 1e-7)
    return -torch.log(p if positive else 1 - p).mean()


@wrong("my_ff_loss", "sign")
def minus_forgotten_here(goodness, gamma, theta, positive):
    m = goodness + gamma.detach() - theta
    return F.logsigmoid(m if positive else -m).mean()


@wrong("my_ff_loss", "exchanged")
def the_wrong_way_round(goodness, gamma, theta, positive):
    m = goodness + gamma.detach() - theta
    return F.softplus(m if positive else -m).mean()


@wrong("my_ff_loss", "summed")
def added_up(goodness, gamma, theta, positive):
    m = goodness + gamma.detach() - theta
    return F.softplus(-m if positive else m).sum()


@wrong("my_ff_loss", "no_gamma")
def plain(goodness, gamma, theta, positive):
    m = goodness - theta
    return F.softplus(-m if positive else m).mean()


@wrong("my_ff_loss", "theta_added")
def plus_theta(goodness, gamma, theta, positive):
    m = goodness + gamma.detach() + theta
    return F.softplus(-m if positive else m).mean()


@wrong("my_ff_loss", "axis left")
def one_a_sample(goodness, gamma, theta, positive):
    m = goodness + gamma.detach() - theta
    return F.softplus(-m if positive else m)


@wrong("my_ff_loss", "no_logarithm")
def probability_missed(goodness, gamma, theta, positive):
    p = torch.sigmoid(goodness + gamma.detach() - theta)
    return 1 - p.mean() if positive else p.mean()


@wrong("my_ff_loss", "goodness_detached")
def all_detached(goodness, gamma, theta, positive):
    m = (goodness + gamma - theta).detach()
    return F.softplus(-m if positive else m).mean()


@wrong("my_ff_loss", "mean_first")
def loss_of_the_mean(goodness, gamma, theta, positive):
    m = (goodness + gamma.detach() - theta).mean()
    return F.softplus(-m if positive else m)


@wrong("my_ff_loss", "gradient_through_gamma", "summed")  # both
def sum_with_gradient(goodness, gamma, theta, positive):
    m = goodness + gamma - theta
    return F.softplus(-m if positive else m).sum()


@wrong("my_ff_loss", "cut_off at 4e-44")
def bce(goodness, gamma, theta, positive):
    p = torch.sigmoid(goodness + gamma.detach() - theta)
    return F.binary_cross_entropy(p, torch.full_like(p, float(positive)))


@wrong("my_ff_loss", "overflow")
def two_sigmoids(goodness, gamma, theta, positive):
    m = goodness + gamma.detach() - theta
    return -torch.sigmoid(m if positive else -m).log().mean()


@wrong("my_ff_loss", "gamma_subtracted")
def minus_gamma(goodness, gamma, theta, positive):
    m = goodness - gamma.detach() - theta
    return F.softplus(-m if positive else m).mean()


@wrong("my_ff_loss", "gradient_through_gamma", "exchanged")
def wrong_and_not_detached(goodness, gamma, theta, positive):
    m = goodness + gamma - theta
    return F.softplus(m if positive else -m).mean()


@wrong("my_ff_loss", "cut_off at 1e-08")
def eps_8(goodness, gamma, theta, positive):
    p = torch.sigmoid(goodness + gamma.detach() - theta)
    return -torch.log(p + 1e-8).mean() if positive else -torch.log(1 - p + 1e-8).mean()


@wrong("my_ff_loss", "ignored goodness", "ignored theta")
def margin_clamped(goodness, gamma, theta, positive):
    m = (goodness + gamma.detach() - theta).clamp(-50, 50)
    return F.softplus(-m if positive else m).mean()


# ------------------------------------------------------------------------------------ my_team_losses


def ff(goodness, gamma, theta, positive):
    m = goodness + gamma.detach() - theta
    return F.softplus(-m if positive else m).mean()


@right("my_team_losses")
def sum_minus_own(every, theta):
    total = sum(every).detach()
    losses = []
    for g in every:
        (a, b), (u, v) = g.chunk(2), (total - g.detach()).chunk(2)
        losses.append(ff(a, u, theta, True) + ff(b, v, theta, False))
    return losses


@right("my_team_losses")
def by_mask(every, theta):
    stacked, n = torch.stack(every), len(every[0]) // 2
    gamma = ((1 - torch.eye(len(every))) @ stacked).detach()
    m = stacked + gamma - theta
    return list(F.softplus(-m[:, :n]).mean(1) + F.softplus(m[:, n:]).mean(1))


@right("my_team_losses")
def by_slices(every, theta):
    n, losses = len(every[0]) // 2, []
    for i in range(len(every)):
        rest = sum(every[:i] + every[i + 1 :])
        losses.append(ff(every[i][:n], rest[:n], theta, True) + ff(every[i][n:], rest[n:], theta, False))
    return losses


@right("my_team_losses")
def as_a_tuple(every, theta):
    return tuple(
        ff(g.chunk(2)[0], others(every, i).chunk(2)[0], theta, True)
        + ff(g.chunk(2)[1], others(every, i).chunk(2)[1], theta, False)
        for i, g in enumerate(every)
    )


@right("my_team_losses")
def by_signs(layers, threshold):
    sign = torch.ones_like(layers[0])
    sign[len(sign) // 2 :] = -1
    losses = []
    for i, g in enumerate(layers):
        m = g + others(layers, i).detach() - threshold
        losses.append(2 * F.softplus(-sign * m).mean())
    return losses


@wrong("my_team_losses", "itself_twice")
def gamma_is_the_sum(every, theta):
    gamma = sum(every)
    losses = []
    for g in every:
        n = len(g) // 2
        losses.append(ff(g[:n], gamma[:n], theta, True) + ff(g[n:], gamma[n:], theta, False))
    return losses


@wrong("my_team_losses", "not_cut")
def total_not_detached(every, theta):
    n = len(every[0]) // 2
    m = sum(every) - theta
    return [F.softplus(-m[:n]).mean() + F.softplus(m[n:]).mean() for _ in every]


@wrong("my_team_losses", "only_below")
def earlier_layers(every, theta):
    losses = []
    for i, g in enumerate(every):
        gamma = sum(every[:i], torch.zeros_like(g))
        (a, b), (u, v) = g.chunk(2), gamma.chunk(2)
        losses.append(ff(a, u, theta, True) + ff(b, v, theta, False))
    return losses


@wrong("my_team_losses", "mean_of_others")
def averaged_others(every, theta):
    losses = []
    for i, g in enumerate(every):
        gamma = torch.stack([o for j, o in enumerate(every) if j != i]).mean(0)
        (a, b), (u, v) = g.chunk(2), gamma.chunk(2)
        losses.append(ff(a, u, theta, True) + ff(b, v, theta, False))
    return losses


def others(every, i):
    return torch.stack([o for j, o in enumerate(every) if j != i]).sum(0)


@wrong("my_team_losses", "halves_exchanged")
def bad_half_first(every, theta):
    losses = []
    for i, g in enumerate(every):
        (b, a), (v, u) = g.chunk(2), others(every, i).chunk(2)
        losses.append(ff(a, u, theta, True) + ff(b, v, theta, False))
    return losses


@wrong("my_team_losses", "every_other_sample")
def taking_turns(every, theta):
    losses = []
    for i, g in enumerate(every):
        o = others(every, i)
        losses.append(ff(g[::2], o[::2], theta, True) + ff(g[1::2], o[1::2], theta, False))
    return losses


@wrong("my_team_losses", "halved")
def mean_of_halves(every, theta):
    losses = []
    for i, g in enumerate(every):
        (a, b), (u, v) = g.chunk(2), others(every, i).chunk(2)
        losses.append((ff(a, u, theta, True) + ff(b, v, theta, False)) / 2)
    return losses


@wrong("my_team_losses", "good_gamma_for_both")
def gamma_of_the_good(every, theta):
    losses = []
    for i, g in enumerate(every):
        (a, b), u = g.chunk(2), others(every, i).chunk(2)[0]
        losses.append(ff(a, u, theta, True) + ff(b, u, theta, False))
    return losses


@wrong("my_team_losses", "strangers")
def nobody_else(every, theta):
    z = torch.zeros(len(every[0]) // 2)
    return [ff(g.chunk(2)[0], z, theta, True) + ff(g.chunk(2)[1], z, theta, False) for g in every]


@wrong("my_team_losses", "type")
def one_number(every, theta):
    n = len(every[0]) // 2
    total = sum(every)
    return F.softplus(theta - total[:n]).mean() + F.softplus(total[n:] - theta).mean()


@wrong("my_team_losses", "good_only")
def only_the_good(every, theta):
    return [ff(g.chunk(2)[0], others(every, i).chunk(2)[0], theta, True) for i, g in enumerate(every)]


@wrong("my_team_losses", "all_good")
def both_positive(every, theta):
    losses = []
    for i, g in enumerate(every):
        (a, b), (u, v) = g.chunk(2), others(every, i).chunk(2)
        losses.append(ff(a, u, theta, True) + ff(b, v, theta, True))
    return losses


@wrong("my_team_losses", "type")
def pairs(every, theta):
    losses = []
    for i, g in enumerate(every):
        (a, b), (u, v) = g.chunk(2), others(every, i).chunk(2)
        losses.append((ff(a, u, theta, True), ff(b, v, theta, False)))
    return losses


@wrong("my_team_losses", "nothing_pulls")
def as_floats(every, theta):
    losses = []
    for i, g in enumerate(every):
        (a, b), (u, v) = g.chunk(2), others(every, i).chunk(2)
        losses.append((ff(a, u, theta, True) + ff(b, v, theta, False)).item())
    return losses


@wrong("my_team_losses", "nothing_pulls")
def own_taken_away_with_gradient(every, theta):
    total = sum(every).detach()
    losses = []
    for g in every:
        m = g + (total - g) - theta  # G cancels: its gradient is zero
        n = len(g) // 2
        losses.append(F.softplus(-m[:n]).mean() + F.softplus(m[n:]).mean())
    return losses


@wrong("my_team_losses", "mean_of_others")
def over_all_but_one(every, theta):
    out = []
    for i, g in enumerate(every):
        gamma = others(every, i) / (len(every) - 1)
        n = len(g) // 2
        out.append(ff(g[:n], gamma[:n], theta, True) + ff(g[n:], gamma[n:], theta, False))
    return out


@wrong("my_team_losses", "itself_twice", "mean_of_others")
def mean_including_itself(every, theta):
    out, gamma = [], sum(every) / len(every)
    for g in every:
        n = len(g) // 2
        out.append(ff(g[:n], gamma[:n], theta, True) + ff(g[n:], gamma[n:], theta, False))
    return out


@wrong("my_team_losses", "halves_exchanged")
def flags_exchanged(every, theta):
    out = []
    for i, g in enumerate(every):
        (a, b), (u, v) = g.chunk(2), others(every, i).chunk(2)
        out.append(ff(a, u, theta, False) + ff(b, v, theta, True))
    return out


@wrong("my_team_losses", "no_halves")
def whole_batch_both(every, theta):
    return [
        ff(g, others(every, i), theta, True) + ff(g, others(every, i), theta, False)
        for i, g in enumerate(every)
    ]


@wrong("my_team_losses", "gammas_exchanged")
def gammas_swapped(every, theta):
    out = []
    for i, g in enumerate(every):
        (a, b), (u, v) = g.chunk(2), others(every, i).chunk(2)
        out.append(ff(a, v, theta, True) + ff(b, u, theta, False))
    return out


@wrong("my_team_losses", "axis left")
def a_tensor_of_losses(every, theta):
    out = []
    for i, g in enumerate(every):
        (a, b), (u, v) = g.chunk(2), others(every, i).chunk(2)
        out.append(F.softplus(theta - a - u.detach()) + F.softplus(b + v.detach() - theta))
    return out


# ---------------------------------------------------------------------------- my_noprop_coefficients


def solved(before, after, alpha):
    c = 1 / (1 / (1 - after) + alpha / (1 - alpha))
    return c * after.sqrt() / (1 - after), c * alpha.sqrt() / (1 - alpha), c


@right("my_noprop_coefficients")
def by_precisions(alpha_bar):
    before, after = alpha_bar[:-1], alpha_bar[1:]
    return solved(before, after, before / after)


@right("my_noprop_coefficients")
def closed_form(levels):
    p, q = levels[:-1], levels[1:]
    alpha = p / q
    a = q.sqrt() * (1 - alpha) / (1 - p)
    b = alpha.sqrt() * (1 - q) / (1 - p)
    return a, b, (1 - q) * (1 - alpha) / (1 - p)


@right("my_noprop_coefficients")
def step_by_step(alpha_bar):
    rows = []
    for t in range(1, len(alpha_bar)):
        alpha = alpha_bar[t - 1] / alpha_bar[t]
        c = 1 / (1 / (1 - alpha_bar[t]) + alpha / (1 - alpha))
        rows.append((c * alpha_bar[t].sqrt() / (1 - alpha_bar[t]), c * alpha.sqrt() / (1 - alpha), c))
    return [torch.stack(part) for part in zip(*rows, strict=True)]


@right("my_noprop_coefficients")
def from_the_moments(alpha_bar):
    before, after = alpha_bar[:-1], alpha_bar[1:]
    c = (1 - after) * (after - before) / after / (1 - before)
    b = (before / after).sqrt() * (1 - after) / (1 - before)
    return after.sqrt() - b * before.sqrt(), b, c


@right("my_noprop_coefficients")
def inverse_ratio(alpha_bar):
    before, after = alpha_bar[:-1], alpha_bar[1:]
    second = 1 / (after / before - 1)  # infinite below the fraction is fine
    c = 1 / (1 / (1 - after) + second)
    return c * after**0.5 / (1 - after), c * (before / after) ** 0.5 * (1 + second), c


@right("my_noprop_coefficients")
def in_float(alpha_bar):
    before, after = alpha_bar.float()[:-1], alpha_bar.float()[1:]
    return solved(before, after, before / after)


@wrong("my_noprop_coefficients", "still_divided")
def not_multiplied(alpha_bar):
    before, after = alpha_bar[:-1], alpha_bar[1:]
    a, b, c = solved(before, after, before / after)
    return a / c, b / c, c


@wrong("my_noprop_coefficients", "precision")
def one_over_c(alpha_bar):
    before, after = alpha_bar[:-1], alpha_bar[1:]
    alpha = before / after
    c = 1 / (1 - after) + alpha / (1 - alpha)
    return c * after.sqrt() / (1 - after), c * alpha.sqrt() / (1 - alpha), c


@wrong("my_noprop_coefficients", "bar_for_ratio")
def no_ratio(alpha_bar):
    before, after = alpha_bar[:-1], alpha_bar[1:]
    return solved(before, after, before)


@wrong("my_noprop_coefficients", "off by one")
def whole_schedule(alpha_bar):
    return solved(alpha_bar, alpha_bar, alpha_bar)


@wrong("my_noprop_coefficients", "ratio_upside_down")
def after_over_before(alpha_bar):
    before, after = alpha_bar[:-1], alpha_bar[1:]
    return solved(before, after, after / before)


@wrong("my_noprop_coefficients", "noisier_level")
def before_for_after(alpha_bar):
    before, after = alpha_bar[:-1], alpha_bar[1:]
    return solved(after, before, before / after)


@wrong("my_noprop_coefficients", "root_of_c")
def standard_deviation(alpha_bar):
    before, after = alpha_bar[:-1], alpha_bar[1:]
    a, b, c = solved(before, after, before / after)
    return a, b, c.sqrt()


@wrong("my_noprop_coefficients", "exchanged")
def b_before_a(alpha_bar):
    before, after = alpha_bar[:-1], alpha_bar[1:]
    a, b, c = solved(before, after, before / after)
    return b, a, c


@wrong("my_noprop_coefficients", "no_root_in_a")
def a_without_root(alpha_bar):
    before, after = alpha_bar[:-1], alpha_bar[1:]
    _, b, c = solved(before, after, before / after)
    return c * after / (1 - after), b, c


@wrong("my_noprop_coefficients", "no_root_in_b")
def b_without_root(alpha_bar):
    before, after = alpha_bar[:-1], alpha_bar[1:]
    alpha = before / after
    a, _, c = solved(before, after, alpha)
    return a, c * alpha / (1 - alpha), c


@wrong("my_noprop_coefficients", "variances_added")
def c_is_a_sum(alpha_bar):
    before, after = alpha_bar[:-1], alpha_bar[1:]
    alpha = before / after
    c = (1 - after) + (1 - alpha)
    return c * after.sqrt() / (1 - after), c * alpha.sqrt() / (1 - alpha), c


@wrong("my_noprop_coefficients", "alpha_forgotten")
def one_over_one_minus_alpha(alpha_bar):
    before, after = alpha_bar[:-1], alpha_bar[1:]
    alpha = before / after
    c = 1 / (1 / (1 - after) + 1 / (1 - alpha))
    return c * after.sqrt() / (1 - after), c * alpha.sqrt() / (1 - alpha), c


@wrong("my_noprop_coefficients", "division by zero")
def divides_by_alpha(alpha_bar):
    before, after = alpha_bar[:-1], alpha_bar[1:]
    alpha = before / after
    b = (1 - after) * (1 - alpha) / (1 - before) * alpha / (alpha.sqrt() * (1 - alpha))
    a, _, c = solved(before, after, alpha)
    return a, b, c


@wrong("my_noprop_coefficients", "type")
def two_of_three(alpha_bar):
    before, after = alpha_bar[:-1], alpha_bar[1:]
    return solved(before, after, before / after)[:2]


@wrong("my_noprop_coefficients", "root_of_c", "exchanged")  # both
def two_slips(alpha_bar):
    before, after = alpha_bar[:-1], alpha_bar[1:]
    a, b, c = solved(before, after, before / after)
    return b, a, c.sqrt()


@wrong("my_noprop_coefficients", "ratio_upside_down")
def alpha_turned(alpha_bar):
    alpha = alpha_bar[1:] / alpha_bar[:-1]
    after = alpha_bar[1:]
    c = 1 / (1 / (1 - after) + alpha / (1 - alpha))
    return c * after.sqrt() / (1 - after), c * alpha.sqrt() / (1 - alpha), c


@wrong("my_noprop_coefficients", "no_root_in_a", "no_root_in_b")
def no_roots(alpha_bar):
    before, after = alpha_bar[:-1], alpha_bar[1:]
    alpha = before / after
    c = 1 / (1 / (1 - after) + alpha / (1 - alpha))
    return c * after / (1 - after), c * alpha / (1 - alpha), c


@wrong("my_noprop_coefficients", "type")
def stacked(alpha_bar):
    before, after = alpha_bar[:-1], alpha_bar[1:]
    return torch.stack(solved(before, after, before / after))


@wrong("my_noprop_coefficients", "later_bar_for_ratio")
def alpha_is_the_later_bar(alpha_bar):
    return solved(alpha_bar[:-1], alpha_bar[1:], alpha_bar[1:])


@wrong("my_noprop_coefficients", "noisier_level_in_c")
def before_in_c(alpha_bar):
    before, after = alpha_bar[:-1], alpha_bar[1:]
    alpha = before / after
    c = 1 / (1 / (1 - before) + alpha / (1 - alpha))
    return c * after.sqrt() / (1 - after), c * alpha.sqrt() / (1 - alpha), c


@wrong("my_noprop_coefficients", "difference_for_ratio")
def alpha_as_difference(alpha_bar):
    before, after = alpha_bar[:-1], alpha_bar[1:]
    return solved(before, after, after - before)


@wrong("my_noprop_coefficients", "roots_below")
def roots_below(alpha_bar):
    before, after = alpha_bar[:-1], alpha_bar[1:]
    alpha = before / after
    _, _, c = solved(before, after, alpha)
    return c * after.sqrt() / (1 - after).sqrt(), c * alpha.sqrt() / (1 - alpha).sqrt(), c


@wrong("my_noprop_coefficients", "reversed")
def flipped(alpha_bar):
    before, after = alpha_bar[:-1], alpha_bar[1:]
    return [x.flip(0) for x in solved(before, after, before / after)]


# ------------------------------------------------------------------------------------- my_local_step


@right("my_local_step")
def mended(layers, heads, x, y):
    losses = []
    for layer, head in zip(layers, heads, strict=True):
        h = layer(x)
        loss = F.cross_entropy(head(h), y)
        loss.backward()
        losses.append(loss.item())
        x = h.detach()
    return losses


@right("my_local_step")
def detached_on_entry(layers, heads, x, y):
    losses = []
    for i in range(len(layers)):
        x = layers[i](x.detach())
        loss = F.cross_entropy(heads[i](x), y)
        loss.backward()
        losses.append(loss.item())
    return losses


@right("my_local_step")
def by_grad(layers, heads, x, y):
    losses = []
    for layer, head in zip(layers, heads, strict=True):
        parameters = [*layer.parameters(), *head.parameters()]
        h = layer(x)
        loss = F.cross_entropy(head(h), y)
        for p, g in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            p.grad = g
        losses.append(loss.detach())
        x = h.data
    return losses


@right("my_local_step")
def loss_by_hand(layers, heads, x, y):
    losses = []
    for layer, head in zip(layers, heads, strict=True):
        h = layer(x)
        loss = -head(h).log_softmax(-1).gather(1, y[:, None]).mean()
        loss.backward()
        losses.append(loss.item())
        x = h.detach()
    return losses


@right("my_local_step")
def layer_run_twice(layers, heads, x, y):
    losses = []
    for layer, head in zip(layers, heads, strict=True):
        loss = F.cross_entropy(head(layer(x)), y)
        loss.backward()
        losses.append(loss.item())
        with torch.no_grad():
            x = layer(x)
    return losses


@right("my_local_step")
def one_at_a_time(layers, heads, x, y):
    def one(layer, head, x):
        h = layer(x)
        loss = F.cross_entropy(head(h), y)
        loss.backward()
        return h.detach(), loss.item()

    losses = []
    for layer, head in zip(layers, heads, strict=True):
        x, loss = one(layer, head, x)
        losses += [loss]
    return losses


@wrong("my_local_step", "cut_before_the_head", "backward_at_the_end")
def untouched(layers, heads, x, y):
    losses = []
    for layer, head in zip(layers, heads, strict=True):
        x = layer(x).detach()
        losses.append(F.cross_entropy(head(x), y))
    sum(losses).backward()
    return [loss.item() for loss in losses]


@wrong("my_local_step", "backward_at_the_end")
def cut_mended_only(layers, heads, x, y):
    losses = []
    for layer, head in zip(layers, heads, strict=True):
        h = layer(x)
        losses.append(F.cross_entropy(head(h), y))
        x = h.detach()
    sum(losses).backward()
    return [loss.item() for loss in losses]


@wrong("my_local_step", "cut_before_the_head")
def backward_mended_only(layers, heads, x, y):
    losses = []
    for layer, head in zip(layers, heads, strict=True):
        x = layer(x).detach()
        loss = F.cross_entropy(head(x), y)
        loss.backward()
        losses.append(loss.item())
    return losses


@wrong("my_local_step", "nothing_is_cut")
def detach_removed(layers, heads, x, y):
    losses = []
    for layer, head in zip(layers, heads, strict=True):
        x = layer(x)
        losses.append(F.cross_entropy(head(x), y))
    sum(losses).backward()
    return [loss.item() for loss in losses]


@wrong("my_local_step", "graph_used_twice")
def backward_inside_uncut(layers, heads, x, y):
    losses = []
    for layer, head in zip(layers, heads, strict=True):
        x = layer(x)
        loss = F.cross_entropy(head(x), y)
        loss.backward()
        losses.append(loss.item())
    return losses


@wrong("my_local_step", "nothing_is_cut")
def retained(layers, heads, x, y):
    losses = []
    for layer, head in zip(layers, heads, strict=True):
        x = layer(x)
        loss = F.cross_entropy(head(x), y)
        loss.backward(retain_graph=True)
        losses.append(loss.item())
    return losses


@wrong("my_local_step", "cut_before_the_head")
def no_grad_in_layers(layers, heads, x, y):
    losses = []
    for layer, head in zip(layers, heads, strict=True):
        with torch.no_grad():
            x = layer(x)
        loss = F.cross_entropy(head(x), y)
        loss.backward()
        losses.append(loss.item())
    return losses


@wrong("my_local_step", "last_loss_only")
def backpropagation(layers, heads, x, y):
    losses = []
    for layer, head in zip(layers, heads, strict=True):
        x = layer(x)
        losses.append(F.cross_entropy(head(x), y))
    losses[-1].backward()
    return [loss.item() for loss in losses]


@wrong("my_local_step", "backward_at_the_end")
def layers_before_heads(layers, heads, x, y):
    outputs, losses = [], []
    for layer in layers:
        outputs.append(layer(x))
        x = outputs[-1].detach()
    for h, head in zip(outputs, heads, strict=True):
        loss = F.cross_entropy(head(h), y)
        loss.backward()
        losses.append(loss.item())
    return losses


@wrong("my_local_step", "weights_moved")
def updates_too(layers, heads, x, y):
    losses = []
    for layer, head in zip(layers, heads, strict=True):
        h = layer(x)
        loss = F.cross_entropy(head(h), y)
        loss.backward()
        for p in [*layer.parameters(), *head.parameters()]:
            p.data -= 0.1 * p.grad
        losses.append(loss.item())
        x = h.detach()
    return losses


@wrong("my_local_step", "backward_at_the_end")
def a_loss_without_a_layer(layers, heads, x, y):
    losses = []
    for layer, head in zip(layers, heads, strict=True):
        h = layer(x)
        losses.append(F.cross_entropy(head(h), y))
        losses[-1].backward(retain_graph=True)
        x = h.detach()
    return [loss.item() for loss in losses]


@wrong("my_local_step", "same_input")
def never_handed_on(layers, heads, x, y):
    losses = []
    for layer, head in zip(layers, heads, strict=True):
        loss = F.cross_entropy(head(layer(x)), y)
        loss.backward()
        losses.append(loss.item())
    return losses


@wrong("my_local_step", "gradients_divided")
def divided_by_depth(layers, heads, x, y):
    losses = []
    for layer, head in zip(layers, heads, strict=True):
        h = layer(x)
        loss = F.cross_entropy(head(h), y)
        (loss / len(layers)).backward()
        losses.append(loss.item())
        x = h.detach()
    return losses


@wrong("my_local_step", "exception")
def hands_logits_on(layers, heads, x, y):
    losses = []
    for layer, head in zip(layers, heads, strict=True):
        logits = head(layer(x))
        loss = F.cross_entropy(logits, y)
        loss.backward()
        losses.append(loss.item())
        x = logits.detach()
    return losses


@wrong("my_local_step", "cut_before_the_head")
def head_on_detached(layers, heads, x, y):
    losses = []
    for layer, head in zip(layers, heads, strict=True):
        h = layer(x)
        loss = F.cross_entropy(head(h.detach()), y)
        loss.backward()
        losses.append(loss.item())
        x = h.detach()
    return losses


@wrong("my_local_step", "backward_at_the_end")
def backward_in_a_second_loop(layers, heads, x, y):
    losses = []
    for layer, head in zip(layers, heads, strict=True):
        x = layer(x.detach())
        losses.append(F.cross_entropy(head(x), y))
    for loss in losses:
        loss.backward()
    return [loss.item() for loss in losses]


@wrong("my_local_step", "forward_only")
def zero_grad_after(layers, heads, x, y):
    losses = []
    for layer, head in zip(layers, heads, strict=True):
        h = layer(x)
        loss = F.cross_entropy(head(h), y)
        loss.backward()
        losses.append(loss.item())
        layer.zero_grad()
        head.zero_grad()
        x = h.detach()
    return losses


@wrong("my_local_step", "forward_only")
def no_backward(layers, heads, x, y):
    losses = []
    for layer, head in zip(layers, heads, strict=True):
        h = layer(x)
        losses.append(F.cross_entropy(head(h), y).item())
        x = h.detach()
    return losses


@wrong("my_local_step", "exception")
def loss_detached(layers, heads, x, y):
    losses = []
    for layer, head in zip(layers, heads, strict=True):
        h = layer(x)
        loss = F.cross_entropy(head(h), y).detach()
        loss.backward()
        losses.append(loss.item())
        x = h.detach()
    return losses


@wrong("my_local_step", "graph_used_twice")
def detach_not_assigned(layers, heads, x, y):
    losses = []
    for layer, head in zip(layers, heads, strict=True):
        x = layer(x)
        loss = F.cross_entropy(head(x), y)
        loss.backward()
        losses.append(loss.item())
        x.detach()
    return losses


@wrong("my_local_step", "nothing_is_cut")
def one_sum_no_detach(layers, heads, x, y):
    total, losses = 0, []
    for layer, head in zip(layers, heads, strict=True):
        x = layer(x)
        loss = F.cross_entropy(head(x), y)
        total = total + loss
        losses.append(loss.item())
    total.backward()
    return losses


# ------------------------------------------------------------------------------------- my_early_exit


def first_sure(p, confidence):
    sure = p.amax(-1) >= confidence
    sure[-1] = True
    return sure.int().argmax(0)


def read_at(values, place):
    return values.gather(0, place[None])[0]


@right("my_early_exit")
def gathered(logits, confidence):
    p = logits.softmax(-1)
    used = first_sure(p, confidence)
    return read_at(p.argmax(-1), used), used + 1


@right("my_early_exit")
def sample_after_sample(logits, confidence):
    said, used = [], []
    for b in range(logits.shape[1]):
        for n in range(len(logits)):
            p = F.softmax(logits[n, b], 0)
            if p.max() >= confidence or n == len(logits) - 1:
                said.append(p.argmax())
                used.append(n + 1)
                break
    return torch.stack(said), torch.tensor(used)


@right("my_early_exit")
def those_left_go_on(logits, confidence):
    size = logits.shape[1]
    said, used = torch.zeros(size, dtype=torch.long), torch.zeros(size, dtype=torch.int32)
    left = torch.arange(size)
    for n, layer in enumerate(logits, 1):
        p, best = layer[left].softmax(-1).max(-1)
        go = p >= confidence if n < len(logits) else torch.ones_like(p, dtype=torch.bool)
        said[left[go]], used[left[go]] = best[go], n
        left = left[~go]
    return said, used


@right("my_early_exit")
def from_the_end(outputs, threshold):
    said, used = outputs[-1].argmax(-1), torch.full((outputs.shape[1],), len(outputs))
    for n in reversed(range(len(outputs))):
        sure = outputs[n].softmax(-1).amax(-1) >= threshold
        said, used = torch.where(sure, outputs[n].argmax(-1), said), torch.where(sure, n + 1, used)
    return said, used


@right("my_early_exit")
def in_a_list(logits, confidence):
    with torch.no_grad():
        p = logits.float().softmax(-1)
    used = first_sure(p, confidence)
    return [p.argmax(-1)[used, torch.arange(logits.shape[1])], used + 1]


@wrong("my_early_exit", "from_zero")
def numbered_from_zero(logits, confidence):
    used = first_sure(logits.softmax(-1), confidence)
    return read_at(logits.argmax(-1), used), used


@wrong("my_early_exit", "undecided_first")
def nobody_sure(logits, confidence):
    used = (logits.softmax(-1).amax(-1) >= confidence).int().argmax(0)  # 0 where no layer is sure
    return read_at(logits.argmax(-1), used), used + 1


@wrong("my_early_exit", "leaves_late")
def overwritten(logits, confidence):
    answer, used = (torch.zeros(logits.shape[1], dtype=torch.long) for _ in range(2))
    for n, layer in enumerate(logits, 1):
        p, said = layer.softmax(-1).max(-1)
        leaves = (p >= confidence) | ((n == len(logits)) & (used == 0))
        answer, used = torch.where(leaves, said, answer), torch.where(leaves, n, used)
    return answer, used


@wrong("my_early_exit", "always_last")
def last_overwrites(logits, confidence):
    answer, used = (torch.zeros(logits.shape[1], dtype=torch.long) for _ in range(2))
    for n, layer in enumerate(logits, 1):
        p, said = layer.softmax(-1).max(-1)
        leaves = (p >= confidence) | (n == len(logits))
        answer, used = torch.where(leaves, said, answer), torch.where(leaves, n, used)
    return answer, used


@wrong("my_early_exit", "logits_compared")
def without_softmax(logits, confidence):
    used = first_sure(logits, confidence)
    return read_at(logits.argmax(-1), used), used + 1


@wrong("my_early_exit", "answer_of_the_last")
def last_answer(logits, confidence):
    return logits[-1].argmax(-1), first_sure(logits.softmax(-1), confidence) + 1


@wrong("my_early_exit", "all_together")
def whole_batch_leaves(logits, confidence):
    for n, layer in enumerate(logits, 1):
        p, said = layer.softmax(-1).max(-1)
        if n == len(logits) or (p >= confidence).all():
            return said, torch.full((len(said),), n)


@wrong("my_early_exit", "any_leaves")
def first_sure_takes_all(logits, confidence):
    for n, layer in enumerate(logits, 1):
        p, said = layer.softmax(-1).max(-1)
        if n == len(logits) or (p >= confidence).any():
            return said, torch.full((len(said),), n)


@wrong("my_early_exit", "undecided_zero")
def nobody_sure_zeros(logits, confidence):
    answer, used = (torch.zeros(logits.shape[1], dtype=torch.long) for _ in range(2))
    for n, layer in enumerate(logits, 1):
        p, said = layer.softmax(-1).max(-1)
        leaves = (p >= confidence) & (used == 0)
        answer, used = torch.where(leaves, said, answer), torch.where(leaves, n, used)
    return answer, used


@wrong("my_early_exit", "strictly_more")
def above(logits, confidence):
    sure = logits.softmax(-1).amax(-1) > confidence
    sure[-1] = True
    used = sure.int().argmax(0)
    return read_at(logits.argmax(-1), used), used + 1


@wrong("my_early_exit", "surest_layer")
def most_confident(logits, confidence):
    used = logits.softmax(-1).amax(-1).argmax(0)
    return read_at(logits.argmax(-1), used), used + 1


@wrong("my_early_exit", "over_the_batch")
def softmax_over_batch(logits, confidence):
    p = logits.softmax(1)
    used = first_sure(p, confidence)
    return read_at(p.argmax(-1), used), used + 1


@wrong("my_early_exit", "over_the_layers")
def softmax_over_layers(logits, confidence):
    p = logits.softmax(0)
    used = first_sure(p, confidence)
    return read_at(p.argmax(-1), used), used + 1


@wrong("my_early_exit", "parts_exchanged")
def used_first(logits, confidence):
    used = first_sure(logits.softmax(-1), confidence)
    return used + 1, read_at(logits.argmax(-1), used)


@wrong("my_early_exit", "shape")
def returns_probabilities(logits, confidence):
    p = logits.softmax(-1)
    used = first_sure(p, confidence)
    return p[used, torch.arange(len(used))], used + 1


@wrong("my_early_exit", "from_zero", "strictly_more")  # both
def zero_and_strict(logits, confidence):
    sure = logits.softmax(-1).amax(-1) > confidence
    sure[-1] = True
    used = sure.int().argmax(0)
    return read_at(logits.argmax(-1), used), used


@wrong("my_early_exit", "type")
def a_list_of_pairs(logits, confidence):
    used = first_sure(logits.softmax(-1), confidence)
    return list(zip(read_at(logits.argmax(-1), used), used + 1, strict=True))


@wrong("my_early_exit", "layers_averaged")
def averaged_layers(logits, confidence):
    p = logits.softmax(-1)
    p = p.cumsum(0) / torch.arange(1, len(p) + 1)[:, None, None]
    used = first_sure(p, confidence)
    return read_at(p.argmax(-1), used), used + 1


@wrong("my_early_exit", "by_sigmoid")
def sigmoid_for_softmax(logits, confidence):
    p = logits.sigmoid()
    used = first_sure(p, confidence)
    return read_at(p.argmax(-1), used), used + 1


@wrong("my_early_exit", "answer_of_the_first")
def first_answers(logits, confidence):
    return logits[0].argmax(-1), first_sure(logits.softmax(-1), confidence) + 1


@wrong("my_early_exit", "one_too_many")
def count_unsure(logits, confidence):
    unsure = (logits.softmax(-1).amax(-1) < confidence).cummin(0).values
    used = unsure.sum(0) + 1  # one too many where nobody is sure
    return read_at(logits.argmax(-1), used.clamp(max=len(logits)) - 1), used


@wrong("my_early_exit", "counts_unsure")
def count_all_unsure(logits, confidence):
    used = ((logits.softmax(-1).amax(-1) < confidence).sum(0) + 1).clamp(max=len(logits))
    return read_at(logits.argmax(-1), used - 1), used


@wrong("my_early_exit", "used_overwritten")
def answer_overwritten(logits, confidence):
    answer, used = (torch.zeros(logits.shape[1], dtype=torch.long) for _ in range(2))
    for n, layer in enumerate(logits, 1):
        p, said = layer.softmax(-1).max(-1)
        leaves = (p >= confidence) | (n == len(logits))
        answer = torch.where(leaves & (used == 0), said, answer)
        used = torch.where(leaves, n, used)
    return answer, used
