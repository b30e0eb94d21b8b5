"""Exercises 1, 2, 3 and 5: over what the statistics are taken, and what becomes of them."""

import torch
from torch.nn import functional as F

from course_lib.classroom.answers import case, normal, without
from course_lib.exercises.layers.norm._chapter import exercises
from course_lib.layers import norm

# ------------------------------------------------------------------------- 1. one function, three norms


def _images_and_groups():
    yield case("one channel of two pixels", torch.tensor([1.0, 3.0]).view(1, 1, 1, 2), 1)
    yield case("a constant image: eps is all that is left", torch.full((1, 2, 1, 2), 2.0), 1)
    yield case("two channels, one group", torch.tensor([1.0, 2, 4, 8]).view(1, 2, 1, 2), 1)
    yield case("two channels, a group each", torch.tensor([1.0, 2, 4, 8]).view(1, 2, 1, 2), 2)
    yield case("four channels in two groups: neighbours together", normal(1, 4, 1, 2), 2)
    yield case("six channels in three groups, two images", 3 + 2 * normal(2, 6, 2, 3), 3)
    yield case("six channels in two groups, three images", normal(3, 6, 3, 2), 2)
    yield case("tiny numbers, eps = 0.01", 1e-2 * normal(2, 4, 3, 2), 2, 0.01)
    yield case("far from zero", 30 + normal(2, 2, 3, 3), 1)


@exercises.add(
    cases=_images_and_groups,
    rules=[without("group_norm", "layer_norm", "instance_norm", "batch_norm")],
    hints=(
        "x.reshape(b, groups, -1) puts all numbers of a group into one axis: neighbours in the axis of channels stay neighbours.",
        "Mean and variance (correction=0) over that axis with keepdim=True; eps beside the variance, inside the root; back to x.shape.",
    ),
)
def my_group_norm(x, groups, eps=1e-5):
    return F.group_norm(x, groups, eps=eps)


@my_group_norm.mistakes(
    unbiased="Your variance is divided by n - 1; the statement divides by n. torch.var needs correction=0.",
    eps_outside="eps stands beside the variance, inside the root; you add it to the deviation.",
    no_eps="eps is missing: a constant group would be divided by zero.",
    no_root="You divide by the variance; divide by its root.",
    mean_kept="The mean is not subtracted.",
    mean_square="You divide by the root of the mean square and subtract nothing: that is RMS norm.",
    strided="Your groups take the channels in turns (0, 2, 4 and 1, 3, 5). Neighbours belong together.",
    over_batch="Your statistics run over the batch as well: each image has its own.",
    each_channel="Your statistics are those of each channel alone, whatever the groups: the channels of a group share theirs.",
    whole_image="Your statistics are those of the whole image, whatever the groups.",
    size_for_number="`groups` is how many groups there are, not how many channels each has.",
    only_channels="Each position is standardised by itself: rows and columns belong to the group, too.",
    fixed_eps="eps is an argument; yours is always 1e-5.",
    statistics_detached="The values are right, but mean and deviation depend on x, too, and your gradient does not know it.",
    deviation_detached="The values are right, but the deviation depends on x, too, and your gradient does not know it.",
)
def _(x, groups, eps=1e-5, *, wrong):
    b, c, h, w = x.shape
    if wrong.size_for_number:
        groups = c // groups
    if wrong.each_channel:
        groups = c
    if wrong.whole_image:
        groups = 1
    if wrong.strided:
        y, axes = x.reshape(b, c // groups, groups, h, w), (1, 3, 4)
    else:
        y, axes = x.reshape(b, groups, c // groups, h, w), (2, 3, 4)
    if wrong.over_batch:
        axes = (0, *axes)
    if wrong.only_channels:
        axes = axes[:-2]
    n = torch.ones_like(y).sum(axes, keepdim=True)
    mean = y.mean(axes, keepdim=True)
    centred = y - (mean.detach() if wrong.statistics_detached else mean)
    about = y if wrong.mean_square else y - mean
    var = about.square().sum(axes, keepdim=True) / (n - 1 if wrong.unbiased else n)
    if wrong.statistics_detached or wrong.deviation_detached:
        var = var.detach()
    eps = 0.0 if wrong.no_eps else 1e-5 if wrong.fixed_eps else eps
    std = (var + eps).sqrt()
    if wrong.eps_outside:
        std = y.std(axes, keepdim=True, correction=int(wrong.unbiased)) + eps
    if wrong.no_root:
        std = var + eps
    return ((y if wrong.mean_kept or wrong.mean_square else centred) / std).reshape(x.shape)


# ------------------------------------------------------------------------------ 2. a norm that stands behind


def _linear_and_norm():
    def given(o, d, eta, seed=0):
        g, b, mean = (normal(o, seed=seed + i) for i in (1, 2, 3))
        var = 0.2 + normal(o, seed=9).square()
        return normal(o, d, seed=seed), normal(o, seed=seed), g, b, mean, var, torch.tensor(eta)

    def numbers(*values):
        return [torch.tensor([x]) for x in values]

    weight = torch.tensor([[3.0]])
    yield case("width one, eta = 0", weight, *numbers(1.0, 3.0, 5.0, -1.0, 4.0), torch.tensor(0.0))
    yield case("width one, eta = 0.5", weight, *numbers(1.0, 3.0, 5.0, -1.0, 4.0), torch.tensor(0.5))
    yield case("wide", *given(3, 2, 0.7))
    yield case("square, with another eps", *given(3, 3, -0.3, seed=4), 0.1)
    yield case("narrow", *given(2, 5, 1.5))


@exercises.add(
    cases=_linear_and_norm,
    hints=(
        "The norm is a gain and a shift for each output o: y = a z + c. What are a and c? eta belongs to one of them only.",
        "Put z = W x + b_W into y = a z + c: each *row* of W is multiplied by its a, and so is b_W.",
    ),
)
def my_fold(weight, bias, g, b, mean, var, eta, eps=1e-5):
    def both(x):
        z = F.linear(x, weight, bias)
        return g * (z - mean) / torch.sqrt(var + eps) + b + eta * z

    shift = both(torch.zeros(1, weight.shape[1]))
    return (both(torch.eye(weight.shape[1])) - shift).T, shift[0]


@my_fold.mistakes(
    in_front="You folded a norm that stands in front of the linear layer. Here it stands behind and sees W x + b_W.",
    columns="You scale the columns of W. The norm stands behind and scales what each row makes.",
    no_eta="eta is missing: the norm adds eta times its input.",
    eta_on_centred="eta multiplies z itself, not z minus the mean: the shift has no eta in it.",
    eta_not_in_bias="eta is missing in the bias: eta z contains eta times the old bias, too.",
    eta_not_in_weight="eta is missing in the weight: eta z contains eta W x.",
    bias_not_scaled="The old bias passes through the norm, too: it is multiplied by what multiplies W.",
    bias_forgotten="The old bias is missing.",
    mean_not_scaled="The mean is subtracted before the division: it reaches the output multiplied by the gain.",
    mean_added="The sign of the mean: it is subtracted.",
    mean_forgotten="The running mean is missing.",
    shift_forgotten="The shift b of the norm is missing.",
    shift_scaled="b is added last: nothing multiplies it.",
    no_root="Divide by the deviation, the root of the running variance.",
    eps_outside="eps stands beside the variance, inside the root.",
    fixed_eps="eps is an argument; yours is always 1e-5.",
    no_gain="The gain g is missing.",
    eta_alone="eta z contains eta W x, not eta: it multiplies the weight, too.",
    eta_multiplied="eta z is added to what the norm gives; it multiplies nothing of it.",
)
def _(weight, bias, g, b, mean, var, eta, eps=1e-5, *, wrong):
    eps = 1e-5 if wrong.fixed_eps else eps
    std = var.sqrt() + eps if wrong.eps_outside else (var + eps).sqrt()
    a = (1 if wrong.no_gain else g) / (std**2 if wrong.no_root else std)
    eta = 0 * eta if wrong.no_eta else eta
    if wrong.eta_alone or wrong.eta_multiplied:
        scaled = a[:, None] * weight + eta if wrong.eta_alone else (a * eta)[:, None] * weight
        return scaled, a * (bias - mean) + b + eta * bias
    if wrong.in_front:
        if weight.shape[0] != weight.shape[1]:
            raise RuntimeError
        return weight * (a + eta), bias + weight @ (b - a * mean)
    scale = a if wrong.eta_not_in_weight else a + eta
    if wrong.columns:
        if weight.shape[0] != weight.shape[1]:
            raise RuntimeError
        scaled = weight * scale
    else:
        scaled = scale[:, None] * weight
    old = 0 * bias if wrong.bias_forgotten else bias
    kept = old if wrong.bias_not_scaled else (a if wrong.eta_not_in_bias else a + eta) * old
    lost = mean if wrong.mean_not_scaled else (a + eta if wrong.eta_on_centred else a) * mean
    lost = 0 * mean if wrong.mean_forgotten else -lost if wrong.mean_added else lost
    shift = 0 * b if wrong.shift_forgotten else a * b if wrong.shift_scaled else b
    return scaled, kept + shift - lost


# -------------------------------------------------------------------------------- 3. how flat is a head?


def _causal_maps():
    def drawn(b, h, t, size):
        scores = size * normal(b, h, t, t)
        return scores.masked_fill(torch.ones(t, t, dtype=torch.bool).triu(1), -torch.inf).softmax(-1)

    yield case("two tokens, all alike", drawn(1, 1, 2, 0.0))
    yield case("two tokens, all weight on one", torch.eye(2).view(1, 1, 2, 2))
    yield case("three tokens, all alike", drawn(1, 1, 3, 0.0))
    yield case("three tokens", drawn(1, 1, 3, 1.0))
    yield case("four heads, two samples", drawn(2, 4, 3, 2.0))
    yield case("two heads, three samples", drawn(3, 2, 5, 2.0))


@exercises.add(
    cases=_causal_maps,
    hints=(
        "-(a ln a) summed over the last axis is one entropy for each row; torch.where puts a 1 in the place of a 0 before the logarithm.",
        "Rows 1, 2, ... are divided by ln 2, ln 3, ...; only then comes the mean over samples (axis 0) and rows (axis 2).",
    ),
)
@torch.no_grad()
def my_flatness(weights):
    rows = range(1, weights.shape[-1])
    shares = [torch.special.entr(weights[:, :, t]).sum(-1) / torch.tensor(t + 1.0).log() for t in rows]
    return torch.stack(shares).mean((0, 1))


@my_flatness.mistakes(
    nan_from_zero="0 ln 0 gives NaN in floating point, and a causal map is full of zeros: what may stand in their place under the logarithm?",
    first_row="Row 0 has one weight and no choice: it is divided by ln 1 = 0. Leave it out.",
    one_maximum="You divide all rows by the same number. Row t sees t + 1 tokens only.",
    one_too_many="Row t sees t + 1 tokens, itself among them: you divide by the logarithm of one more.",
    one_too_few="Row t sees t + 1 tokens, itself among them: you divide row 1 by ln 1 = 0.",
    sign_forgotten="An entropy is not negative: the logarithms of weights below one are.",
    over_queries="You add up the columns. A row's weights over the tokens that it sees belong together.",
    not_divided="The entropy has to be divided by the largest that its row can have.",
    row_zero_counted="Row 0 is left out of the mean, too: divide by how many rows there are without it.",
    ratio_of_means="Divide each row by its own largest entropy, and average then: a ratio of means is another number.",
    sum_over_samples="You add up the samples; the mean is asked.",
    sum_over_rows="You add up the rows; the mean is asked.",
    last_row_lost="You leave out the last row; the first one has no choice.",
    base_two="Both logarithms must have the same base.",
    one_number="One number a head: you averaged over the heads, too.",
    samples_left="Average over the samples, too: one number a head.",
    rows_left="Average over the rows, too: one number a head.",
    no_logarithm="There is no logarithm in your entropy.",
)
def _(weights, *, wrong):
    t = weights.shape[-1]
    logs = (weights if wrong.nan_from_zero else torch.where(weights > 0, weights, 1.0)).log()
    logs = weights if wrong.no_logarithm else logs / torch.tensor(2.0).log() if wrong.base_two else logs
    entropy = (weights * logs).sum(-2 if wrong.over_queries else -1) * (1 if wrong.sign_forgotten else -1)
    largest = torch.arange(1, t + 1).log()
    if wrong.one_maximum:
        largest = largest[-1].expand(t)
    if wrong.one_too_many:
        largest = torch.arange(2, t + 2).log()
    if wrong.one_too_few:
        largest = torch.arange(t).log()
    if wrong.last_row_lost:
        entropy, largest = entropy[..., :-1], largest[1:]
    elif not wrong.first_row:
        entropy, largest = entropy[..., 1:], largest[1:]
    if wrong.ratio_of_means:
        entropy = entropy * largest / largest.mean()
    shares = entropy if wrong.not_divided else entropy / largest
    if wrong.one_number:
        return shares.mean()
    if not wrong.rows_left:
        shares = shares.sum(-1) / (
            1 if wrong.sum_over_rows else t if wrong.row_zero_counted else shares.shape[-1]
        )
    if wrong.samples_left:
        return shares
    return shares.sum(0) if wrong.sum_over_samples else shares.mean(0)


# ------------------------------------------------------------------------------------ 5. find the bugs


def _images_and_memory():
    def given(b, c, h, w, training, *rest):
        x = normal(b, c, h, w) + normal(c, 1, 1)
        gamma, beta, v = (1 + 0.5 * normal(c, seed=i) for i in (1, 2, 3))
        return x, gamma, beta, v, 0.2 + normal(c, seed=4).square(), training, *rest

    def small(training):
        x = torch.tensor([-3.0, 1.0, 1.0, 3.0]).view(2, 1, 1, 2)
        return x, *(torch.tensor([p]) for p in (1.0, 0.0, 1.0, 2.0)), training

    yield case("two images of one channel, two pixels, in training", *small(True))
    yield case("the same in evaluation", *small(False))
    yield case("in training, momentum 0.3", *given(3, 2, 2, 3, True, 0.3))
    yield case("in evaluation", *given(2, 3, 3, 2, False, 0.3))
    yield case("tiny numbers, eps = 0.01", 0.05 * normal(2, 2, 2, 2), *given(2, 2, 2, 2, True)[1:], 0.1, 0.01)
    yield case("a constant image in evaluation", torch.full((1, 2, 2, 2), 3.0), *given(1, 2, 2, 2, False)[1:])


def _value_of_memory(result):
    """The gradient of the output counts, not that of the memory."""
    if isinstance(result, tuple | list) and len(result) == 2 and isinstance(result[1], torch.Tensor):
        return result[0], result[1].detach()
    return result


@exercises.add(
    cases=_images_and_memory,
    see=_value_of_memory,
    hints=(
        "Go through the statement sentence by sentence: n or n - 1, what the memory keeps of itself, what evaluation looks at.",
        "In training three lines belong together: B of the batch (correction=0), R = (1 - m) R + m B, B in the maximum. In evaluation B = R.",
    ),
)
def my_evonorm_b0(x, gamma, beta, v, running, training, momentum=0.1, eps=1e-5):
    layer = norm.EvoNormB0(len(gamma), eps=eps, momentum=momentum).double().train(training)
    memory = running.detach().clone() if training else running
    state = {"weight": gamma, "bias": beta, "v": v, "running_var": memory}
    return torch.func.functional_call(layer, state, x), memory


@my_evonorm_b0.mistakes(
    unbiased="B is still divided by n - 1: torch.var does so unless it is told not to.",
    reversed_memory="The memory forgets nearly everything at each step: which of R and B is multiplied by the small m?",
    looks_at_batch="In evaluation the output still depends on the batch: there R takes the place of B.",
    running_in_training="In training you divide by the memory; there the batch's own variance counts.",
    always_updates="In evaluation R stays as it is.",
    image_unbiased="I, the variance of the image, is divided by n, too.",
    image_over_batch="I is the variance of one channel of one image: over rows and columns only.",
    smaller="The larger of the two divides: a maximum.",
    centred="No mean is subtracted from x: only the variances are taken around it.",
    memory_lost="In training the new memory must be returned: yours is still the old one.",
    memory_of_deviation="The memory keeps the variance, not the deviation.",
    no_v="v x is missing in the maximum: without it the layer has no nonlinearity.",
    inside_root="v x stands outside of the root, beside it: inside, the sum may be negative.",
    image_over_channels="I is the variance of one channel: not over the channels.",
    batch_not_centred="B is a variance: the mean of squares of what is left when the mean is subtracted.",
    image_not_centred="I is a variance: the mean of squares of what is left when the mean is subtracted.",
    memory_unbiased="The memory keeps the variance that is divided by n, too.",
)
def _(x, gamma, beta, v, running, training, momentum=0.1, eps=1e-5, *, wrong):
    def per_channel(p):
        return p[:, None, None]

    batch = x.var((0, 2, 3), correction=int(wrong.unbiased))
    batch = x.square().mean((0, 2, 3)) if wrong.batch_not_centred else batch
    kept = batch.sqrt() if wrong.memory_of_deviation else x.var((0, 2, 3)) if wrong.memory_unbiased else batch
    share = 1 - momentum if wrong.reversed_memory else momentum
    new = (1 - share) * running + share * kept if training or wrong.always_updates else running
    used = batch if training or wrong.looks_at_batch else running
    if wrong.running_in_training and training:
        used = new
    axes = (0, 2, 3) if wrong.image_over_batch else (1, 2, 3) if wrong.image_over_channels else (2, 3)
    spread = x.var(axes, correction=int(wrong.image_unbiased), keepdim=True)
    spread = x.square().mean(axes, keepdim=True) if wrong.image_not_centred else spread
    image = torch.sqrt(spread + eps)
    top = x - x.mean((0, 2, 3), keepdim=True) if wrong.centred else x
    second = (0 if wrong.no_v else per_channel(v) * top) + image
    if wrong.inside_root:
        second = torch.sqrt(per_channel(v) * x + spread + eps)
    larger = torch.minimum if wrong.smaller else torch.maximum
    y = per_channel(gamma) * top / larger(torch.sqrt(per_channel(used) + eps), second) + per_channel(beta)
    return y, running if wrong.memory_lost else new
