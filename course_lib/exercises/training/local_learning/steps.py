"""The coefficients of NoProp, a local step to mend, and leaving a network early."""

from functools import cache

import torch
from torch import nn
from torch.nn import functional as F

from course_lib.classroom.answers import case, normal
from course_lib.exercises.training.local_learning._chapter import exercises
from course_lib.training.memory_saving import saved_bytes


@exercises.add(
    cases=[
        case("one step between two levels", torch.tensor([0.25, 0.64])),
        case("one step from pure noise", torch.tensor([0.0, 0.64])),
        case("three steps", torch.tensor([0.1, 0.3, 0.35, 0.9])),
        case("three steps from pure noise", torch.tensor([0.0, 0.2, 0.5, 0.99])),
        case("a small and a large step", torch.tensor([0.001, 0.002, 0.9, 0.95, 0.99])),
    ],
    hints=(
        "alpha_bar[:-1] are the levels before each step, alpha_bar[1:] those after it; alpha is their ratio, below 1.",
        "First c = 1 / (its precision); then a and b are c times the right sides of the other two equations.",
    ),
)
def my_noprop_coefficients(alpha_bar):
    # At 0 the root has no slope.
    alpha_bar = alpha_bar if alpha_bar[0] > 0 else alpha_bar.detach()
    before, after = alpha_bar[:-1], alpha_bar[1:]
    alpha = before / after
    noise = (1 - alpha) / (1 - before)
    return after.sqrt() * noise, alpha.sqrt() * (1 - after) / (1 - before), (1 - after) * noise


@my_noprop_coefficients.mistakes(
    still_divided="Your a and b are still divided by c: that is what the right sides are.",
    precision="You have 1 / c, the precision, in the place of c, the variance.",
    bar_for_ratio="You took alpha-bar for alpha: alpha is the ratio of two neighbours.",
    ratio_upside_down="Your alpha is above 1: the smaller of two neighbours stands above.",
    noisier_level="Your right sides have the level before the step; they ask for the one after it, alpha-bar t.",
    root_of_c="c is a variance; you returned its root. The step takes the root itself.",
    exchanged="a, the weight of the guess, and b, that of the input, are the wrong way round.",
    no_root_in_a="The root of alpha-bar is missing in a.",
    no_root_in_b="The root of alpha is missing in b.",
)
@my_noprop_coefficients.mistakes(
    multiplied_once_more="You divide the right sides by c; a is c times the right side.",
    precision_returned="The third result is the precision 1 / c, not the variance.",
    later_bar_for_ratio="You took alpha-bar for alpha: alpha is the ratio of two neighbours.",
    noisier_level_in_c="c has the level before the step; it asks for the one after it, alpha-bar t.",
    difference_for_ratio="alpha is the ratio of two neighbours; you took their difference.",
    roots_below="Below the fractions of a and b there is no root.",
    variances_added="You add variances. Here precisions add, because two pieces of knowledge come together.",
    alpha_forgotten="The second precision has alpha above its fraction, and not 1.",
    first_only="The second precision is missing: what is known from the noisier level counts, too.",
)
def _(alpha_bar, *, wrong):
    before, after = alpha_bar[:-1], alpha_bar[1:]
    alpha = before if wrong.bar_for_ratio else after / before if wrong.ratio_upside_down else before / after
    if wrong.difference_for_ratio:
        alpha = after - before
    if wrong.later_bar_for_ratio:
        alpha = after
    level = before if wrong.noisier_level else after
    second = 0 if wrong.first_only else (1 if wrong.alpha_forgotten else alpha) / (1 - alpha)
    precision = 1 / (1 - (before if wrong.noisier_level_in_c else level)) + second
    c = (1 - level) + (1 - alpha) if wrong.variances_added else 1 / precision
    factor = 1 if wrong.still_divided else 1 / c if wrong.multiplied_once_more or wrong.precision else c
    a = factor * (level if wrong.no_root_in_a else level.sqrt()) / (1 - level)
    b = factor * (alpha if wrong.no_root_in_b else alpha.sqrt()) / (1 - alpha)
    if wrong.roots_below:
        a, b = a * (1 - level).sqrt(), b * (1 - alpha).sqrt()
    third = c.sqrt() if wrong.root_of_c else 1 / c if wrong.precision or wrong.precision_returned else c
    return (b, a, third) if wrong.exchanged else (a, b, third)


class CrossedBackwardError(RuntimeError):
    """A layer's backward pass ran on into the graph of an earlier layer, which was used up."""


def _network(depth):
    torch.manual_seed(depth)
    layers = [nn.Sequential(nn.Linear(6, 6), nn.Tanh()).double() for _ in range(depth)]
    return layers, [nn.Linear(6, 3).double() for _ in range(depth)]


def _stepped(step, depth):
    """What a step leaves behind in a network of this depth, and whether its memory has grown with the depth."""
    layers, heads = _network(depth)
    modules = nn.ModuleList([*layers, *heads])
    before = [p.detach().clone() for p in modules.parameters()]
    x, y, results = torch.randn(16, 6).double(), torch.arange(16) % 3, []
    try:
        peak = saved_bytes(lambda: results.append(step(layers, heads, x, y)))
    except RuntimeError as error:
        if "second time" not in str(error):
            raise
        text = "backward came to a graph that an earlier layer's backward has used up"
        raise CrossedBackwardError(text).with_traceback(error.__traceback__) from None
    moved = any(not torch.equal(old, p) for old, p in zip(before, modules.parameters(), strict=True))
    gradients = {
        name: [torch.zeros_like(p) if p.grad is None else p.grad for m in part for p in m.parameters()]
        for name, part in (("layers", layers), ("heads", heads))
    }
    return {
        "losses": [float(loss) for loss in results[0]],
        "gradients of the heads": gradients["heads"],
        "gradients of the layers": gradients["layers"],
        "did the step itself move a weight?": moved,
        "stored for backward at the peak": "one layer"
        if peak < 1.2 * _one_layer()
        else "more than one layer",
    }


@cache
def _one_layer():
    (layer,), (head,) = _network(1)
    x, y = torch.randn(16, 6).double(), torch.arange(16) % 3
    return saved_bytes(lambda: F.cross_entropy(head(layer(x)), y).backward())


@exercises.add(
    cases=[
        case("one layer", depth=1),
        case("two layers", depth=2),
        case("three layers", depth=3),
        case("six layers: no more memory than one", depth=6),
    ],
    run=_stepped,
    hints=(
        "Follow the gradient of one loss back: does it come to the layer? And when is the graph of layer 1 let go?",
        "Keep h = layer(x) for the head, call backward() inside the loop, and detach only what the next layer gets.",
    ),
)
def my_local_step(layers, heads, x, y):
    losses = []
    for layer, head in zip(layers, heads, strict=True):
        h = layer(x)
        losses.append(F.cross_entropy(head(h), y))
        losses[-1].backward()
        losses[-1], x = losses[-1].detach(), h.detach()
    return losses


@my_local_step.mistakes(
    cut_before_the_head="Your layers learn nothing: you cut before the head, and the head's gradient is all that a layer gets.",
    backward_at_the_end="The gradients are right, but the graphs of all layers are there at once (one backward at the end, or retain_graph). When can a layer let go of its own?",
    nothing_is_cut="A gradient crosses: the losses of later layers train earlier ones, too. Cut the way between layers (keeping graphs with retain_graph does not).",
    last_loss_only="Only the last loss is used. That is backpropagation, and it waits for the last layer.",
    weights_moved="The step moves the weights itself. It is to fill the gradients; the optimiser comes later.",
    same_input="Every layer gets the network's input; what a layer gives is handed on to the next.",
    gradients_divided="The gradients are those of the mean of the losses. Each loss counts in full.",
    head_cut="Your heads learn nothing: the way from the loss ends before them.",
    forward_only="Nothing learns: no backward is called, or the gradients are cleared after it.",
    summed_over_batch="Your losses are sums over the batch; F.cross_entropy takes the mean.",
)
def _(layers, heads, x, y, *, wrong):
    losses, start = [], x
    waits = wrong.backward_at_the_end or wrong.nothing_is_cut
    for layer, head in zip(layers, heads, strict=True):
        h = layer(start if wrong.same_input else x)
        if wrong.cut_before_the_head:
            h = h.detach()
        weight = head.weight.detach() if wrong.head_cut else head.weight
        logits = F.linear(h, weight, head.bias.detach() if wrong.head_cut else head.bias)
        loss = F.cross_entropy(logits, y, reduction="sum" if wrong.summed_over_batch else "mean")
        losses.append(loss)
        if not (waits or wrong.last_loss_only or wrong.forward_only):
            (loss / len(layers) if wrong.gradients_divided else loss).backward()
        if not (waits or wrong.last_loss_only):
            losses[-1] = loss.detach()
        del loss, logits  # they would keep a graph alive that no backward has used up
        if wrong.weights_moved:
            with torch.no_grad():
                for p in [*layer.parameters(), *head.parameters()]:
                    p -= 0.1 * p.grad
        x = h if wrong.nothing_is_cut or wrong.last_loss_only else h.detach()
    if waits:
        sum(losses).backward()
    if wrong.last_loss_only:
        losses[-1].backward()
    return [loss.item() for loss in losses]


@my_local_step.mistake(
    "The way between the layers is open, so that this backward runs on into the layer below. Do not keep its graph: cut."
)
def graph_used_twice(layers, heads, x, y):
    losses = []
    for layer, head in zip(layers, heads, strict=True):
        x = layer(x)
        losses.append(F.cross_entropy(head(x), y))
        losses[-1].backward()
    return [loss.item() for loss in losses]


def _answers():
    first, second = [[3.0, 0]], [[0.0, 1]]
    yield case("two layers, one sample: the first is sure", torch.tensor([first, second]), 0.9)
    yield case("two layers, one sample: only the second is sure", torch.tensor([second, first]), 0.9)
    yield case("nobody is sure: the last layer", torch.tensor([first, second]), 0.99)
    yield case("one layer", torch.tensor([second]), 0.9)
    certain = torch.tensor([[[1000.0, 0, 0]], [[0.0, 0, 5]], [[0.0, 9, 0]]])
    yield case("a probability of exactly `confidence`, here 1", certain, 1.0)
    yield case("little confidence is enough: everybody leaves at once", normal(3, 4, 3), 0.2)
    yield case("every sample for itself", 2 * normal(3, 4, 3, seed=1), 0.7)
    yield case("large negative logits", 3 * normal(4, 5, 2, seed=2) - 50, 0.95)
    yield case("many layers, samples and classes", 3 * normal(5, 17, 4, seed=3), 0.9)


@exercises.add(
    cases=_answers,
    hints=(
        "Keep two tensors (b), the answers and the layers used, 0 as long as a sample has not left; go through the layers.",
        "leaves = (used == 0) & ((p >= confidence) | (number == len(logits))), and torch.where takes what is new.",
    ),
)
def my_early_exit(logits, confidence):
    answers, used = [], []
    for sample in logits.transpose(0, 1):
        number, said = len(sample), sample[-1].argmax()
        for place, layer in reversed(list(enumerate(sample, 1))):
            if (layer - layer.logsumexp(0)).exp().max() >= confidence:
                number, said = place, layer.argmax()
        answers.append(int(said))
        used.append(number)
    return torch.tensor(answers), torch.tensor(used)


@my_early_exit.mistakes(
    from_zero="The layers used are counted from 1: who leaves at the first one has used one.",
    logits_compared="You compare the logits with the confidence; it is a probability: softmax.",
    answer_of_the_last="Your answers are the last layer's. The answer is that of the layer at which a sample leaves.",
    leaves_late="A sample leaves at the FIRST layer that is sure; yours at the last one.",
    all_together="The whole batch leaves together in your answer, when all are sure. Every sample leaves for itself.",
    any_leaves="The whole batch leaves with the first that is sure. Every sample leaves for itself.",
    undecided_first="Who is never sure leaves at the last layer; yours leave at the first (argmax of nothing but False is 0).",
    undecided_zero="Who is never sure leaves at the last layer, with its answer; yours never leave.",
    strictly_more="A probability of exactly `confidence` is enough: at least, not more than.",
    over_the_batch="Your softmax runs over the batch; the probabilities of one sample's classes add up to one.",
    parts_exchanged="First the classes, then the layers used.",
)
@my_early_exit.mistakes(
    answer_of_the_first="Your answers are the first layer's. The answer is that of the layer at which a sample leaves.",
    surest_answer="Your answers are those of the surest layer. The answer is that of the layer at which a sample leaves.",
    always_last="All of your samples leave at the last layer: who has left must not be asked again.",
    by_sigmoid="A sigmoid looks at each class for itself; the classes compete: softmax.",
    layers_averaged="You average the layers up to here. Each layer is asked for itself.",
    counts_unsure="You count all layers that are not sure; also those after a sure one. Who has left is not asked any more.",
    one_too_many="Who is never sure has used all layers, and not one more.",
    used_overwritten="The answers are right, but later layers write over the number of layers used.",
    undecided_surest="Who is never sure leaves at the last layer, not at the surest.",
    surest_layer="You take the layer that is surest. A sample leaves at the first one that is sure enough.",
    over_the_layers="Your softmax runs over the layers; the probabilities of one layer's classes add up to one.",
    sure_of_class_zero="You look at the probability of one class; the largest one decides.",
)
def _(logits, confidence, *, wrong):
    p = (
        logits
        if wrong.logits_compared
        else logits.softmax(1 if wrong.over_the_batch else 0 if wrong.over_the_layers else 2)
    )
    if wrong.by_sigmoid:
        p = logits.sigmoid()
    if wrong.layers_averaged:
        p = p.cumsum(0) / torch.arange(1, len(p) + 1)[:, None, None]
    top = p[..., 0] if wrong.sure_of_class_zero else p.amax(-1)
    sure = top > confidence if wrong.strictly_more else top >= confidence
    if wrong.all_together or wrong.any_leaves:
        sure = (sure.all(1, keepdim=True) if wrong.all_together else sure.any(1, keepdim=True)).expand_as(
            sure
        )
    decided = sure.any(0)
    sure = sure.clone()
    if not wrong.undecided_first:
        sure[-1] = True
    place = sure.int().argmax(0)
    if wrong.leaves_late:
        place = torch.where(decided, len(logits) - 1 - (top >= confidence).flip(0).int().argmax(0), place)
    if wrong.surest_layer or wrong.undecided_surest:
        place = torch.where(decided & wrong.undecided_surest, place, top.argmax(0))
    place = torch.full_like(place, len(logits) - 1) if wrong.always_last else place
    if wrong.counts_unsure:
        place = (top < confidence).sum(0).clamp(max=len(logits) - 1)
    read = torch.full_like(place, len(logits) - 1) if wrong.answer_of_the_last else place
    read = (
        torch.zeros_like(place)
        if wrong.answer_of_the_first
        else top.argmax(0)
        if wrong.surest_answer
        else read
    )
    answer, used = p.argmax(-1).gather(0, read[None])[0], place + (0 if wrong.from_zero else 1)
    used = used + 1 * (wrong.one_too_many & ~decided)
    used = torch.full_like(used, len(logits)) if wrong.used_overwritten else used
    if wrong.undecided_zero:
        answer, used = answer * decided, used * decided
    return (used, answer) if wrong.parts_exchanged else (answer, used)
