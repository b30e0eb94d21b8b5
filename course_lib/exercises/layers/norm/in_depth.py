"""Exercises 6, 7 and 8: what a norm does to a stream, to keys, and to the learning rate."""

import math

import torch

from course_lib.classroom.answers import case
from course_lib.exercises.layers.norm._chapter import exercises
from course_lib.layers import norm

# -------------------------------------------------------------- 6. how far does a layer turn the stream?


def _streams(place, depth, gain):
    """The stream itself, with an axis of its own for each layer: before each layer, after the sum, after all."""
    x, before, summed, after = torch.zeros(depth + 1), [], [], []
    x[0] = 1.0
    unit = lambda u: u / u.norm()  # noqa: E731  mean square 1 is length 1 here
    for layer in range(depth):
        into = unit(x) if place in ("pre", "peri") else x
        message = torch.zeros(depth + 1)
        message[layer + 1] = math.sqrt(gain) * into.norm()
        message = unit(message) if place == "peri" else message
        before, summed = [*before, x], [*summed, x + message]
        x = unit(summed[-1]) if place == "post" else summed[-1]
        after.append(x)
    return before, summed, after


PLACES = [
    case("no norm, one layer", "none", 1, 4.0),
    case("post, one layer", "post", 1, 4.0),
    case("pre, one layer", "pre", 1, 4.0),
    case("peri, one layer", "peri", 1, 4.0),
    case("no norm, three layers", "none", 3, 4.0),
    case("post, three layers", "post", 3, 4.0),
    case("pre, three layers", "pre", 3, 4.0),
    case("peri, three layers", "peri", 3, 4.0),
    case("no norm, layers that add little", "none", 5, 0.25),
    case("post, layers that add little", "post", 5, 0.25),
    case("pre, layers that add little", "pre", 5, 0.25),
    case("peri, layers that add little", "peri", 5, 0.25),
]


@exercises.add(
    cases=PLACES,
    hints=(
        "Go layer by layer: what does F get, what does it return, what is added, what is left?",
        "With stream size S: added is gain S (none, post), gain (pre) or 1 (peri); post ends at 1 each time.",
    ),
)
def my_sizes(place, depth, gain):
    _, _, after = _streams(place, depth, gain)
    return torch.stack([torch.tensor(1.0), *(x.square().sum() for x in after)])


@my_sizes.mistakes(
    start_missing="The size before the first layer, 1, is the first entry: there are depth + 1.",
    gain_only="F is added to the stream; in your answer it takes its place.",
    peri_gain="With peri a norm stands behind F: it does not matter what F's gain is.",
    peri_constant="With peri the message is normalised, not the sum: the stream still grows.",
    pre_unnormalised="With pre F gets a stream of size 1, however large the stream has grown.",
    pre_constant="With pre only what F gets is normalised; the stream itself goes on growing.",
    post_grows="With post the sum itself is normalised, after every layer.",
    post_as_peri="With post the norm stands around the sum, not around the message.",
    gain_squared="`gain` already is a ratio of mean squares: do not square it.",
    lengths_added="At a right angle squares add (Pythagoras), not lengths.",
    roots="Mean squares are asked, not their roots.",
    peri_as_post="With peri the norm stands around the message, not around the sum.",
    none_linear="With none F gets the stream as it has grown: each layer multiplies.",
    post_unnormalised="With post the norm comes behind the sum: what it leaves has size 1.",
    one_layer_too_many="The first entry is the size before the first layer; yours is the one after it.",
)
def _(place, depth, gain, *, wrong):
    grows = gain**2 if wrong.gain_squared else gain
    size, out = 1.0, [1.0]
    for _ in range(depth + wrong.one_layer_too_many):
        into = size if place in ("none", "post") or (place == "pre" and wrong.pre_unnormalised) else 1.0
        added = grows if place == "none" and wrong.none_linear else grows * into
        if (place == "peri" and not wrong.peri_gain) or (place == "post" and wrong.post_as_peri):
            added = 1.0
        before = 1.0 if place == "pre" and wrong.pre_constant else size
        size = before + added
        if wrong.gain_only and place == "none":
            size = added
        if wrong.lengths_added:
            size = (math.sqrt(before) + math.sqrt(added)) ** 2
        if place == "peri" and (wrong.peri_constant or wrong.peri_as_post):
            size = 2.0 if wrong.peri_constant else 1.0
        if place == "post" and not (wrong.post_grows or wrong.post_as_peri):
            size = 1.0 + gain if wrong.post_unnormalised else 1.0
        out.append(math.sqrt(size) if wrong.roots else size)
    return torch.tensor(out[1:] if wrong.start_missing or wrong.one_layer_too_many else out)


@exercises.add(
    cases=PLACES,
    hints=(
        "The stream before the layer and what is added are the two short sides of a triangle with a right angle.",
        "tan(angle) = length of what is added / length of the stream before; lengths are roots of mean squares.",
    ),
)
def my_turns(place, depth, gain):
    before, summed, _ = _streams(place, depth, gain)
    pairs = zip(before, summed, strict=True)
    cosines = [a @ b / (a.norm() * b.norm()) for a, b in pairs]
    return torch.rad2deg(torch.acos(torch.stack(cosines)))


@my_turns.mistakes(
    radians="Degrees, please: these are radians.",
    no_root="The tangent is a ratio of lengths; yours is one of mean squares.",
    upside_down="This is the other angle of the triangle: the one at the end of what is added.",
    sine="The stream before is not the longest side of the triangle: it is no sine.",
    size_after="You compare what is added with the stream after the layer; the right angle lies at the one before.",
    peri_gain="With peri what is added has size 1, whatever the gain.",
    pre_constant="With pre F gets a stream of size 1, while the stream itself grows: the turns cannot all be equal.",
    from_start="You measure how far the stream is from where it started; asked is the turn in each layer.",
    one_late="The first entry belongs to the stream as it enters, of size 1; you begin one layer later.",
    no_tangent="A ratio is no angle yet: which function makes one of it?",
    start_too="One angle for each layer: depth of them.",
    cosine="The cosine is a ratio of lengths; yours is one of mean squares.",
    post_stream_grows="With post the stream is back at size 1 after every layer.",
    post_adds_one="With post no norm stands in F's way: what it adds has the size gain.",
    gain_squared="`gain` already is a ratio of mean squares: do not square it.",
    peri_constant="With peri the stream itself grows from layer to layer.",
    post_from_sizes="The norm takes the length away, not the direction: with post the angle is that before the norm.",
    none_falls="With none what F adds grows with the stream: each turn is the same.",
    turns_added="One turn for each layer; yours are added up.",
)
def _(place, depth, gain, *, wrong):
    gain = gain**2 if wrong.gain_squared else gain
    size, out = 1.0, []
    for layer in range(depth + wrong.start_too + wrong.one_late):
        into = size if place in ("none", "post") else 1.0
        added = gain * into
        if place == "peri" and not wrong.peri_gain:
            added = 1.0
        if place == "post" and (wrong.post_adds_one or wrong.post_stream_grows):
            added = gain if wrong.post_stream_grows else 1.0
        before = size + added if wrong.size_after else size
        ratio = before / added if wrong.upside_down else added / before
        ratio = ratio if wrong.no_root else math.sqrt(ratio)
        angle = math.asin(min(1.0, ratio)) if wrong.sine else math.atan(ratio)
        if wrong.no_tangent:
            angle = ratio
        if wrong.cosine:
            angle = math.acos(before / (before + added))
        if place == "post" and wrong.post_from_sizes:
            angle = 0.0
        if place == "none" and wrong.none_falls:
            angle = math.atan(math.sqrt(gain / size))
        constant = (place == "pre" and wrong.pre_constant) or (place == "peri" and wrong.peri_constant)
        size = size if constant else size + added
        if place == "post" and not wrong.post_stream_grows:
            size = 1.0
        if wrong.from_start:
            angle = math.acos(1 / math.sqrt(size))
        if layer or not wrong.one_late:
            out.append(angle if wrong.radians else math.degrees(angle))
    return torch.tensor(out).cumsum(0) if wrong.turns_added else torch.tensor(out)


# ------------------------------------------------------------------------------- 7. a key that gets lost


@exercises.accept(
    hints=(
        "Keys on a circle, and a W that looks at them from the side: which keys lie between others then?",
        "W = [[1], [0]] keeps the first number of each key. Of three different numbers on a line one is in the middle.",
    )
)
def my_lost_key(result):
    if not (isinstance(result, tuple | list) and len(result) == 2):
        return "returns two tensors: keys (n, d) and w (d, e)"
    if not all(isinstance(x, torch.Tensor) and x.is_floating_point() for x in result):
        return "returns two tensors of floating-point numbers: keys (n, d) and w (d, e)"
    keys, w = (x.detach().double() for x in result)
    if keys.ndim != 2 or w.ndim != 2 or keys.shape[1] != w.shape[0]:
        return f"wants keys (n, d) and w (d, e), got {tuple(keys.shape)} and {tuple(w.shape)}"
    lengths = keys.norm(dim=1)
    if lengths.max() - lengths.min() > 1e-5 * lengths.max():
        return f"wants keys of one length; theirs go from {lengths.min():.4g} to {lengths.max():.4g}"
    if _nearest(keys) < 1e-5:
        return "has two equal keys: all keys must be different"
    seen = keys @ w
    if _nearest(seen) < 1e-5:
        return "has two keys that become equal behind w: they must stay different, and one must still be lost"
    if not norm.unselectable_keys(seen).any():
        full = w.shape[0] <= w.shape[1] and torch.linalg.matrix_rank(w) == w.shape[0]
        why = ": this w can be undone, so that each query on the keys has one behind w that does the same"
        return f"loses no key{why if full else ': behind w, too, none lies between the others'}"
    return ""


def _nearest(points):
    """The smallest distance of two of them."""
    return torch.pdist(points).min().item() if len(points) > 1 else math.inf


# ------------------------------------------------------------- 8. the learning rate that decays by itself


@exercises.add(
    cases=[
        case("length 1", 1.0, 0.5, 2.0),
        case("length 2: another gradient than at length 1", 2.0, 1.0, 6.0),
        case("a short W takes a large turn", 0.1, 0.3, 2.0),
        case("a long W hardly turns", 30.0, 0.2, 5.0),
    ],
    hints=(
        "L(c W) = L(W) for all c. By c, at c = 1: W . grad L(W) = 0. By W: c grad L(c W) = grad L(W). What do both say?",
        "The step is eta G / length long and at a right angle to W: Pythagoras gives the new length, the arctangent the turn.",
    ),
)
def my_step(length, lr, unit_gradient):
    # A loss that does not see the length: G times the angle of W in a plane.
    w = torch.tensor([length, 0.0], requires_grad=True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(unit_gradient * torch.atan2(w[1], w[0]), w)
    after = w.detach() - lr * gradient
    return after.norm().item(), math.degrees(abs(math.atan2(after[1], after[0])))


@my_step.mistakes(
    gradient_not_scaled="G is the gradient's length where W has length 1. W is longer or shorter now: what does that do to the gradient?",
    gradient_grows="The gradient does not grow with W: where W is long, the same step turns it less, and the loss changes less.",
    gradient_square="You divide G by the square of the length: the gradient falls with the length itself.",
    shrinks_along="The gradient does not point along W, where the loss is constant: lengths are not subtracted.",
    added="The step does not point along W: lengths are not added.",
    minus_under_root="The step is at a right angle to W: the new length is the long side of the triangle.",
    radians="Degrees, please: the turn is in radians.",
    sine="The old length is not the longest side of the triangle: it is no sine of the turn.",
    small_angle="The ratio is the tangent of the turn, not the turn itself: it differs for large ones.",
    upside_down="This is the other angle of the triangle.",
    squared_length="The new length is still squared.",
    length_kept="The loss does not see the length, but the step changes it.",
    swapped="The length comes first, then the turn.",
    lr_not_squared="lr is missing in the square: all of the step is squared, not only the gradient.",
    no_lr="The learning rate is missing.",
    turns_back="A turn is how far, not which way: it is not negative.",
    new_length_below="The tangent is the step over the old length, beside the right angle; you divide by the new one.",
)
def _(length, lr, unit_gradient, *, wrong):
    gradient = unit_gradient / length
    if wrong.gradient_not_scaled:
        gradient = unit_gradient
    if wrong.gradient_grows:
        gradient = unit_gradient * length
    if wrong.gradient_square:
        gradient = unit_gradient / length**2
    moved = gradient * (1 if wrong.no_lr else lr)
    new = math.hypot(length, moved)
    if wrong.lr_not_squared:
        new = math.sqrt(length**2 + lr * gradient**2)
    if wrong.shrinks_along:
        new = length - moved
    if wrong.added:
        new = length + moved
    if wrong.minus_under_root:
        new = math.sqrt(abs(length**2 - moved**2))
    new = length if wrong.length_kept else new**2 if wrong.squared_length else new
    ratio = moved / length
    angle = math.atan(ratio)
    if wrong.sine:
        angle = math.asin(min(1.0, ratio))
    if wrong.new_length_below:
        angle = math.atan(moved / new)
    angle = -angle if wrong.turns_back else angle
    if wrong.small_angle:
        angle = ratio
    if wrong.upside_down:
        angle = math.pi / 2 - angle
    angle = angle if wrong.radians else math.degrees(angle)
    return (angle, new) if wrong.swapped else (new, angle)
