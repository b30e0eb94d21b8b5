"""Exercise 4: layer norm backwards, in three steps, against torch's autograd."""

import torch
from torch.nn import functional as F

from course_lib.classroom.answers import case, normal, without
from course_lib.exercises.layers.norm._chapter import exercises


def _pulled_back(function, dy, *inputs):
    """What autograd says, as numbers: only values are compared."""
    with torch.enable_grad():
        inputs = [x.detach().requires_grad_() for x in inputs]
        return list(torch.autograd.grad(function(*inputs), inputs, dy.detach()))


# --------------------------------------------------------------------------------------- the projection


@exercises.add(
    cases=[
        case("one row of two", torch.tensor([[1.0, 0.0]])),
        case("one row of three", torch.tensor([[1.0, 2.0, 6.0]])),
        case("two rows", torch.tensor([[1.0, 0.0], [0.0, 3.0]])),
        case("rows of one number: nothing is left of it", torch.tensor([[2.0], [-1.0]])),
        case("many rows", normal(5, 4)),
    ],
    rules=[without("autograd")],
    hints=(
        "Write p as a matrix for d = 2. What is its transpose?",
        "y_i depends on x_j directly (if i = j), and through the mean (always, with -1/d): add up what arrives from all i.",
    ),
)
def my_project_backward(dy):
    return _pulled_back(lambda x: x - x.mean(-1, keepdim=True), dy, torch.zeros_like(dy))[0]


@my_project_backward.mistakes(
    mean_constant="You take the mean for a constant; it depends on every entry of the row.",
    over_rows="You use the means of the columns. Each row is a sample of its own.",
    over_all="You use one mean for all rows. Each row is a sample of its own.",
    sum_for_mean="Too much is subtracted: in the mean each entry has the weight 1/d.",
    added="The sign: the mean is subtracted in p, and its derivative is, too.",
    own_entry_only="You took the diagonal of the derivative only: x_j moves the mean, and with it all y_i of its row.",
    mean_only="This is what comes back through the mean alone; each y_i contains x_i itself, too.",
    over_number_of_rows="You divide by the number of rows; a mean over a row is divided by its width d.",
    all_but_one="In the mean each entry has the weight 1/d, not 1/(d - 1).",
    mean_alone_turned="What arrives at the entry itself is missing: each y_i contains x_i.",
    scaled="No factor d stands in front: compute it by hand for a row of two.",
)
def _(dy, *, wrong):
    if wrong.mean_constant:
        return dy
    mean = dy.mean() if wrong.over_all else dy.mean(0 if wrong.over_rows else -1, keepdim=True)
    mean = dy.sum(-1, keepdim=True) if wrong.sum_for_mean else mean
    if wrong.over_number_of_rows or wrong.all_but_one:
        return dy - dy.sum(-1, keepdim=True) / (len(dy) if wrong.over_number_of_rows else dy.shape[-1] - 1)
    if wrong.mean_alone_turned:
        return -mean.expand_as(dy)
    if wrong.own_entry_only:
        mean = dy / dy.shape[-1]
    if wrong.mean_only:
        return mean.expand_as(dy)
    return (dy + mean if wrong.added else dy - mean) / (dy.shape[-1] if wrong.scaled else 1)


# ------------------------------------------------------------------------------------------- the scaling


def _arriving_and_rows():
    yield case("one row of one number", torch.tensor([[1.0]]), torch.tensor([[2.0]]), 1.0)
    yield case("one row of two", torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 7.0]]))
    yield case("a row of zeros: eps is all that is left", torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2))
    yield case("rows far from zero", normal(2, 3), 5 + normal(2, 3, seed=1))
    yield case("short rows, eps = 0.1", normal(4, 3), 0.3 * normal(4, 3, seed=1), 0.1)
    yield case("many rows", normal(5, 7), normal(5, 7, seed=1))


@exercises.add(
    cases=_arriving_and_rows,
    rules=[without("autograd")],
    hints=(
        "y_i = x_i / r: the product rule gives dy_j / r, and a second part, from r, that all entries of the row share.",
        "The derivative of r by x_j is x_j / (d r) = y_j / d; that of 1 / r is -1 / r^2 times this.",
    ),
)
def my_scale_backward(dy, x, eps=1e-5):
    return _pulled_back(lambda x: F.rms_norm(x, x.shape[-1:], eps=eps), dy, x)[0]


@my_scale_backward.mistakes(
    radius_constant="You take r for a constant; it depends on every entry of the row.",
    not_divided="A division by r is missing: longer rows are moved less by the same change.",
    divided_twice="You divide by r once too often.",
    sum_for_mean="The part that comes through r is a mean over the row, not a sum: r is the root of a mean.",
    input_for_output="The part that comes through r contains x_i / r and x_j / r; yours contains x itself.",
    power_two="The part that comes through r is divided by the third power of r: count them.",
    plus="The sign of the part that comes through r: a longer row is divided by more.",
    own_entry_only="r couples all entries of a row: what arrives at the others counts, too.",
    no_eps="eps is missing in r.",
    deviation="r is the root of the mean square: nothing is subtracted in it.",
    centred="Nothing was subtracted in s, so no mean is subtracted here: that belongs to p.",
    length_one="This s makes the sum of squares one; here it is the mean of squares.",
    over_rows="You take the mean over the rows of the batch. Each row is a sample of its own.",
    over_all="You take one mean over all rows. Each row is a sample of its own.",
    twice="The part that comes through r is twice too large: a root brings one half, a square brings two.",
    half="The part that comes through r is half as large as it should be: a root brings one half, a square brings two.",
    through_radius_only="This is what comes back through r alone; each y_i contains x_i itself, too.",
    forward="This is s(x), forwards. Asked is how dy comes back through it.",
    arriving_ignored_in_mean="In the mean stands the product of what arrives with y, not y squared.",
    fixed_eps="eps is an argument; yours is always 1e-5.",
)
def _(dy, x, eps=1e-5, *, wrong):
    eps = 0.0 if wrong.no_eps else 1e-5 if wrong.fixed_eps else eps
    size = x.square().sum(-1, keepdim=True) if wrong.length_one else x.square().mean(-1, keepdim=True)
    size = x.var(-1, keepdim=True, correction=0) if wrong.deviation else size
    r = (size + eps).sqrt()
    y = x / r
    if wrong.forward:
        return y
    n = x if wrong.input_for_output else y
    shared = dy * n
    if wrong.arriving_ignored_in_mean:
        shared = n * n
    if wrong.sum_for_mean or wrong.length_one:
        shared = shared.sum(-1, keepdim=True)
    elif wrong.own_entry_only:
        shared = shared / x.shape[-1]
    elif wrong.over_all:
        shared = shared.mean()
    else:
        shared = shared.mean(0 if wrong.over_rows else -1, keepdim=True)
    back = n * shared * (r if wrong.power_two else 2 if wrong.twice else 0.5 if wrong.half else 1)
    if wrong.radius_constant:
        back = 0 * back
    direct = 0 * dy if wrong.through_radius_only else dy
    if wrong.centred:
        direct = direct - dy.mean(-1, keepdim=True)
    total = direct + back if wrong.plus else direct - back
    return total if wrong.not_divided else total / r**2 if wrong.divided_twice else total / r


# ------------------------------------------------------------------------------------------ all of it


def _arriving_rows_and_gains():
    def given(n, d, *rest):
        return normal(n, d), 1 + 2 * normal(n, d, seed=1), 1 + 0.5 * normal(d), *rest

    one = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[1.0, 2.0, 6.0]])
    yield case("one row, all gains one", *one, torch.ones(3))
    yield case("one row, with gains", *one, torch.tensor([1.0, 2.0, -1.0]))
    yield case("a constant row: eps is all that is left", *one[:1], torch.full((1, 3), 2.0), torch.ones(3))
    yield case("two rows", *given(2, 3))
    yield case("many rows, eps = 0.1", *given(5, 4, 0.1))
    yield case("wide rows", *given(3, 7))


@exercises.add(
    cases=_arriving_rows_and_gains,
    rules=[without("autograd")],
    hints=(
        "Backwards the order is turned round: gain, scaling, projection. And the scaling wants to know what went into it.",
        "dx is projected back last: my_project_backward(my_scale_backward(g * dy, centred x, eps)); dg and db are sums over the rows.",
    ),
)
def my_layer_norm_backward(dy, x, g, eps=1e-5):
    return _pulled_back(lambda x, g, b: F.layer_norm(x, g.shape, g, b, eps), dy, x, g, torch.zeros_like(g))


@my_layer_norm_backward.mistakes(
    no_gain="The gain is missing in dx: what arrives at s(p(x)) is g times dy.",
    gain_last="The gain acts last going forwards, so it comes first going back.",
    not_centred="The scaling gets x instead of p(x): what went into it is the centred row.",
    constant_mean="The way back through the projection is missing.",
    constant_deviation="The way back through the scaling is more than a division by r.",
    means_over_samples="The gradients of gain and shift are sums over the rows; you took means.",
    gain_from_x="Gain multiplies s(p(x)): that is what dy is multiplied with in dg, not x.",
    gain_from_centred="Gain multiplies s(p(x)): you multiply dy with the centred row, which is not scaled yet.",
    gain_twice="There is no g in the gradient of g itself.",
    shift_with_gain="The shift is added behind the gain: there is no g in its gradient.",
    unbiased="Your variance is divided by d - 1; the statement divides by d.",
    no_eps="eps is missing.",
    fixed_eps="eps is an argument; yours is always 1e-5.",
    samples_not_summed="Gain and shift are shared by all rows: sum their gradients over the rows.",
    over_width="The gradients of gain and shift have one number for each column: sum over the rows.",
    eps_lost_backwards="Hand eps on to the way back through the scaling: there yours is always 1e-5.",
    gains_swapped="The order is dx, dg, db.",
)
def _(dy, x, g, eps=1e-5, *, wrong):
    eps = 0.0 if wrong.no_eps else 1e-5 if wrong.fixed_eps else eps
    centred = x - x.mean(-1, keepdim=True)
    r = (x.var(-1, keepdim=True, correction=int(wrong.unbiased)) + eps).sqrt()
    n = centred / r
    q = dy if wrong.no_gain or wrong.gain_last else g * dy
    into = n
    if wrong.not_centred:
        r = (x.square().mean(-1, keepdim=True) + eps).sqrt()
        into = x / r
    if wrong.eps_lost_backwards:
        r = (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
        into = centred / r
    back = q / r if wrong.constant_deviation else (q - into * (q * into).mean(-1, keepdim=True)) / r
    if not wrong.constant_mean:
        back = back - back.mean(-1, keepdim=True)
    dx = g * back if wrong.gain_last else back
    each = dy * (x if wrong.gain_from_x else centred if wrong.gain_from_centred else n)
    each = g * each if wrong.gain_twice else each
    shift = g * dy if wrong.shift_with_gain else dy
    if wrong.samples_not_summed:
        return dx, each, shift
    axis = -1 if wrong.over_width else 0
    dg, db = (p.mean(axis) if wrong.means_over_samples else p.sum(axis) for p in (each, shift))
    return (dx, db, dg) if wrong.gains_swapped else (dx, dg, db)
