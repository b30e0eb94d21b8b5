"""Bins, blind windows, a mean to mend, soft pooling backwards, spectra."""

import torch
from torch.nn import functional as F

from course_lib.classroom.answers import case, normal, without
from course_lib.exercises.layers.pool._chapter import exercises
from course_lib.layers import pool


@exercises.add(
    cases=[
        case("bins that divide the rows", 12, 4),
        case("one bin", 7, 1),
        case("neighbours share a row", 3, 2),
        case("a bin a row", 5, 5),
        case("several shared rows", 10, 4),
        case("some bins end at a whole row", 6, 4),
        case("nearly three rows a bin", 11, 4),
        case("more bins than rows", 3, 5),
        case("a real map", 13, 6),
    ],
    hints=(
        "Write the bins of 10 rows and 4 bins down: 0-3, 2-5, 5-8, 7-10. Which rows stand in two of them?",
        "Count for every row how many bins hold it, with start <= row < stop; then how many rows have a count above 1.",
    ),
)
def my_shared_rows(a, n):
    seen = [0] * a
    for start, stop in pool.adaptive_bins(a, n):
        for row in range(start, stop):
            seen[row] += 1
    return sum(count > 1 for count in seen)


@my_shared_rows.mistakes(
    overlaps_counted="A row in three bins is one row: count rows, not overlaps.",
    floors_only="A bin ends at the next whole number above, not below: round up at its end.",
    inclusive="stop is exclusive: the row `stop` belongs to the next bin.",
    rest="The rest of the division does not tell it: some rests share more rows than others.",
    one_too_many="The last bin has no neighbour behind it.",
    bins_counted="These are the bins that share a row; the rows are asked.",
    each_border="Not every border between two bins falls inside a row: where m a / n is whole, nothing is shared.",
    rounded_sizes="This is what n bins of the same rounded size hold too much; here bins differ in size.",
    share="The number of rows is asked, not their share.",
)
def _(a, n, *, wrong):
    if wrong.rest:
        return a % n
    if wrong.each_border:
        return n - 1 if a % n else 0
    if wrong.rounded_sizes:
        return -(-a // n) * n - a
    bins = [(m * a // n, (m + 1) * a // n if wrong.floors_only else -(-(m + 1) * a // n)) for m in range(n)]
    if wrong.inclusive:
        bins = [(start, min(stop + 1, a)) for start, stop in bins]
    seen = [0] * a
    for start, stop in bins:
        for row in range(start, stop):
            seen[row] += 1
    shared = sum(count > 1 for count in seen)
    if wrong.overlaps_counted:
        return sum(count - 1 for count in seen if count > 1)
    if wrong.bins_counted:
        return sum(any(seen[row] > 1 for row in range(start, stop)) for start, stop in bins)
    return shared / a if wrong.share else shared + 1 if wrong.one_too_many else shared


@exercises.accept(
    hints=(
        "The last window ends at ceil(a/n) + (count - 1) floor(a/n); write it down for n = 4 and a = 5, ..., 11.",
        "A rest of 1 gives one more window or reaches the end. Try a rest that is larger, and an a that is large.",
    )
)
def my_blind_pair(result):
    if not (
        isinstance(result, tuple | list) and len(result) == 2 and all(isinstance(x, int) for x in result)
    ):
        return "returns two whole numbers, rows and bins"
    a, n = result
    if not 0 < n <= a:
        return f"needs at least one bin and no more bins than rows, got {a} rows and {n} bins"
    size, stride = -(-a // n), a // n
    count = (a - size) // stride + 1
    last = size + (count - 1) * stride
    if count != n:
        return f"gives {count} windows, not {n}"
    return f"sees every row: the last window ends at {last} of {a}" if last == a else ""


# -------------------------------------------------------------------------------- a mean to mend


def _tokens():
    def positive(*shape, seed=0):
        return 0.1 + normal(*shape, seed=seed).abs()

    def orders(*values):
        return torch.tensor(values, dtype=torch.float64)

    yield case("one channel, order 1: the mean", positive(1, 2, 1), orders(1.0), 1e-6)
    yield case("one channel, order 2", positive(1, 2, 1), orders(2.0), 1e-6)
    yield case("two groups of two channels", positive(1, 2, 4), orders(1.0, 3.0), 1e-6)
    yield case("values below eps", torch.tensor([[[-1.0], [0.5], [0.01]]]), orders(3.0), 0.1)
    yield case("a negative order", positive(2, 5, 2), orders(-1.0, 2.0), 1e-6)
    yield case("an order of 40 and values of a million", 1e6 * positive(2, 3, 4), orders(0.5, 40.0), 1e-6)


@exercises.add(
    cases=_tokens,
    hints=(
        "With d = 4 and two groups, neighbouring channels belong together: 0 and 1 have the first order.",
        "Go through the equation from the inside: cut off, power, mean, root. Which of them does the code not do?",
        "repeat gives 0 1 0 1, repeat_interleave gives 0 0 1 1.",
    ),
)
def my_group_mean(x, p, eps):
    order = p.repeat_interleave(x.shape[-1] // len(p))
    log_sum = torch.logsumexp(order * x.clamp(min=eps).log(), dim=1)
    return ((log_sum - torch.tensor(float(x.shape[1])).log()) / order).exp()


@my_group_mean.mistakes(
    interleaved_groups="Your groups take every so many-th channel; they are neighbours.",
    power_sum="The powers are added up, not averaged: the result grows with the number of tokens.",
    without_root="The root at the end is missing: the mean of equal numbers is not that number.",
    absolute_values="Values below eps become eps; yours become positive.",
    eps_added="Values below eps become eps, all others stay; you add eps to them.",
    not_cut="Values below eps become eps; yours stay.",
    one_order="All channels have the first order.",
    over_channels="The mean runs over the tokens, axis 1.",
    maximum="This is the largest value, the limit of large orders.",
    divided_last="You divide by the number of tokens after the root; the mean stands inside it.",
    not_inverted="The root at the end is the power 1 / p; yours is the power p once more.",
    mean_cut="Every value is cut off before its power; you cut off the mean.",
)
def _(x, p, eps, *, wrong):
    count = x.shape[-1] // len(p)
    order = p.repeat(count) if wrong.interleaved_groups else p.repeat_interleave(count)
    if wrong.one_order:
        order = p[:1].expand(x.shape[-1])
    given = x
    if wrong.absolute_values:
        x = x.abs().clamp(min=eps)
    elif wrong.eps_added:
        x = x.clamp(min=0) + eps
    elif not wrong.not_cut:
        x = x.clamp(min=eps)
    if wrong.mean_cut:
        return given.pow(order).mean(1).clamp(min=eps).pow(1 / order)
    if wrong.divided_last:
        return x.pow(order).sum(1).pow(1 / order) / x.shape[1]
    if wrong.not_inverted:
        return x.pow(order).mean(1).pow(order)
    if wrong.maximum:
        return x.amax(1)
    powers = x.pow(order)
    if wrong.over_channels:
        return powers.mean(2).pow(1 / order[0])
    powers = powers.sum(1) if wrong.power_sum else powers.mean(1)
    return powers if wrong.without_root else powers.pow(1 / order)


# ---------------------------------------------------------------------------- soft pooling backwards


def _maps():
    def given(label, x, k):
        return case(label, normal(*x.shape[:2], x.shape[2] // k, x.shape[3] // k, seed=3), x, k)

    yield given("one window of one value", normal(1, 1, 1, 1), 1)
    yield given("one window", normal(1, 1, 2, 2), 2)
    yield given("windows side by side", normal(1, 1, 2, 4), 2)
    yield given("rows and columns differ, channels", normal(2, 3, 4, 6), 2)
    yield given("rows and columns that fill no window", normal(1, 2, 7, 5), 3)
    yield given("values of a thousand", 1000 + normal(1, 1, 4, 4), 2)
    yield given("a window with one large value", torch.tensor([[[[0.0, 900.0], [1.0, 2.0]]]]), 2)


@exercises.add(
    cases=_maps,
    rules=[without("autograd")],
    hints=(
        "dw_n / da_m = w_n ([n = m] - w_m). Put it into dy/da_m = sum over n of (dw_n/da_m) a_n + w_m: it becomes w_m (1 + a_m - y).",
        "x[:, :, :r * k, :c * k].unflatten(3, (c, k)).unflatten(2, (r, k)) has the axes (b, c, r, k, c, k).",
    ),
)
def my_soft_pool_back(dy, x, k):
    return torch.func.vjp(lambda x: pool.soft_pool2d(x, k), x)[1](dy)[0]


@my_soft_pool_back.mistakes(
    weights_only="The weights depend on the values, too: w_n alone is the gradient of log sum exp.",
    without_one="Where is the value itself? a_n stands in y with its weight w_n, besides acting through the weights.",
    sign="Raising a value that is larger than the result raises its weight: a_n - y, not y - a_n.",
    overflow="The exponential overflows: torch.softmax does not.",
    over_image="The weights are those of a window, not of the whole image.",
    rest_filled="Rows and columns that fill no window get no gradient.",
    no_dy="dy is missing: each window's gradient is multiplied by its own.",
    softmax_alone="w (1 - w) is how a weight moves with its own value; y is the sum of all w_n a_n.",
    other_weights_fixed="Raising one value lowers the weights of all the others: sum over n before you simplify.",
    result_missing="Raising a_n lowers the other weights: where is y in your factor?",
    mean="Nothing is averaged over the window: the weights add up to one already.",
)
def _(dy, x, k, *, wrong):
    rows, columns = x.shape[2] // k, x.shape[3] // k
    z = x[:, :, : rows * k, : columns * k].unflatten(3, (columns, k)).unflatten(2, (rows, k))
    flat = z.transpose(3, 4).flatten(4)
    w = flat.softmax(-1)
    if wrong.over_image:
        w = (flat.flatten(2).softmax(-1)).view_as(flat)
    if wrong.overflow:
        w = flat.exp() / flat.exp().sum(-1, keepdim=True)
    y = (w * flat).sum(-1, keepdim=True)
    inside = flat - y
    inside = -inside if wrong.sign else inside
    inside = flat if wrong.result_missing else flat * (1 - w) if wrong.other_weights_fixed else inside
    inside = -w if wrong.softmax_alone else inside
    dy = dy / k**2 if wrong.mean else dy
    g = w if wrong.weights_only else w * (inside if wrong.without_one else 1 + inside)
    g = g if wrong.no_dy else g * dy[..., None]
    g = g.unflatten(4, (k, k)).transpose(3, 4).flatten(4).flatten(2, 3)
    pad = (0, x.shape[3] - columns * k, 0, x.shape[2] - rows * k)
    return F.pad(g, pad, value=1.0 if wrong.rest_filled else 0.0)


# ------------------------------------------------------------------------------------------- spectra


def _spectra(*, multiple):
    def given(label, *shape, s):
        return case(label, torch.fft.fft2(normal(*shape)), s)

    yield given("nothing changes", 2, 2, s=1)
    if multiple:
        yield given("two by two, every second", 2, 2, s=2)
        yield given("rows and columns differ", 4, 2, s=2)
        yield given("every third", 3, 6, s=3)
        yield given("a batch", 2, 3, 6, 4, s=2)
    else:
        yield given("one value", 1, 1, s=2)
        yield given("rows and columns differ", 2, 3, s=2)
        yield given("three times", 2, 2, s=3)
        yield given("a batch", 2, 3, 4, 2, s=2)


@exercises.add(
    cases=lambda: _spectra(multiple=False),
    rules=[without("fft_fft2", "fft_ifft2", "fft2", "ifft2", "fft_fft", "fft_ifft", "fft", "ifft")],
    hints=(
        "One axis: Y_k = sum over n of x_n exp(-2 pi i k (s n) / (s N)). What does s do in the exponent?",
        "exp(-2 pi i k n / N) has the period N in k: the spectrum is repeated.",
    ),
)
def my_spectrum_after(spectrum, s):
    x = torch.fft.ifft2(spectrum)
    places = [
        torch.eye(n).repeat_interleave(s, 0) * (torch.arange(s * n) % s == 0)[:, None] for n in x.shape[-2:]
    ]
    down, across = (place.to(x.dtype) for place in places)
    return torch.fft.fft2(down @ x @ across.mT)


@my_spectrum_after.mistakes(
    stretched="Frequencies are not stretched: the same spectrum comes again, s times along each axis.",
    divided="The zeros add nothing: nothing is divided.",
    multiplied="Nothing grows: the sum has the same terms as before.",
    padded="Zeros between the values do not make zeros in the spectrum: it is repeated. (Zeros in the spectrum would interpolate.)",
    mirrored="The copies are equal, not mirrored.",
    one_axis="It is repeated along both axes.",
    divided_once="The zeros add nothing: nothing is divided, not by s either.",
    zeros_in_spectrum="Zeros between the values do not make zeros in the spectrum: it is repeated.",
)
def _(spectrum, s, *, wrong):
    ones = [1] * (spectrum.ndim - 2)
    if wrong.zeros_in_spectrum:
        rows, columns = spectrum.shape[-2:]
        between = torch.zeros(*spectrum.shape[:-2], s * rows, s * columns, dtype=spectrum.dtype)
        between[..., ::s, ::s] = spectrum
        return between
    if wrong.divided_once:
        return spectrum.repeat(*ones, s, s) / s
    if wrong.stretched:
        return spectrum.repeat_interleave(s, -2).repeat_interleave(s, -1)
    if wrong.padded:
        return F.pad(spectrum, (0, (s - 1) * spectrum.shape[-1], 0, (s - 1) * spectrum.shape[-2]))
    if wrong.mirrored:
        rows = torch.cat([spectrum, *([spectrum.flip(-2)] * (s - 1))], -2)
        return torch.cat([rows, *([rows.flip(-1)] * (s - 1))], -1)
    if wrong.one_axis:
        return spectrum.repeat(*ones, s, 1).repeat_interleave(s, -1)
    repeated = spectrum.repeat(*ones, s, s)
    return repeated / s**2 if wrong.divided else repeated * s**2 if wrong.multiplied else repeated


@exercises.add(
    cases=lambda: _spectra(multiple=True),
    rules=[without("fft_fft2", "fft_ifft2", "fft2", "ifft2", "fft_fft", "fft_ifft", "fft", "ifft")],
    hints=(
        "Set all but every s-th value to zero: that repeats nothing new, it averages the s shifted copies of the spectrum.",
        "Fold each axis: unflatten it into s blocks and take the mean over the blocks.",
    ),
)
def my_spectrum_sampled(spectrum, s):
    return torch.fft.fft2(torch.fft.ifft2(spectrum)[..., ::s, ::s])


@my_spectrum_sampled.mistakes(
    cut_off="High frequencies are not cut off: they fold onto the low ones (aliasing).",
    summed="The blocks are averaged: the sum has s times fewer terms along each axis.",
    every_sth="Every s-th frequency belongs to a signal that is repeated; here the blocks are folded.",
    interleaved="Frequencies that are a whole block apart fold onto each other, not neighbours.",
    one_axis="Both axes fold.",
    root="The mean along each axis divides by s, so by s squared together.",
    block_divided="One block alone is the low frequencies: all blocks are folded onto each other.",
    multiplied="The sum over the blocks is divided by s squared, not multiplied.",
    same_on_both_axes="Every row block meets every column block: yours adds up those on the diagonal alone.",
    absolute_values="The copies interfere: complex numbers are added, not their absolute values.",
)
def _(spectrum, s, *, wrong):
    rows, columns = spectrum.shape[-2] // s, spectrum.shape[-1] // s
    if wrong.cut_off:
        return spectrum[..., :rows, :columns]
    if wrong.every_sth:
        return spectrum[..., ::s, ::s]
    if wrong.interleaved:
        return spectrum.unflatten(-1, (columns, s)).mean(-1).unflatten(-2, (rows, s)).mean(-2)
    blocks = spectrum.unflatten(-1, (s, columns)).unflatten(-3, (s, rows))
    if wrong.one_axis:
        return blocks[..., 0, :].mean(-3)
    if wrong.block_divided:
        return blocks[..., 0, :, 0, :] / s**2
    if wrong.same_on_both_axes:
        return sum(blocks[..., n, :, n, :] for n in range(s)) / s
    if wrong.absolute_values:
        blocks = blocks.abs().to(spectrum)
    total = blocks.sum((-4, -2)) * (s**4 if wrong.multiplied else 1)
    return total if wrong.summed else total / (s if wrong.root else s**2)
