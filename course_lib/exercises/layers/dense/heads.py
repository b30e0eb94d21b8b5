"""Exercises 3, 7 and 8: a dense block, what its scores mean, and when to stop training it."""

import copy
import math

import torch
from torch import nn
from torch.nn import functional as F

from course_lib.classroom.answers import case, normal
from course_lib.exercises.layers.dense._chapter import exercises
from course_lib.layers import dense

# ---------------------------------------------------------------------------- 3. the inverted bottleneck


def _streams():
    yield case("one vector", torch.tensor([[1.0, 2.0, 4.0]]))
    yield case("no axis in front", normal(3))
    yield case("far from zero", 30 + normal(2, 3))
    yield case("two axes in front", 3 * normal(2, 4, 3))


class MyBlock(dense.InvertedBottleneckBlock):
    def __init__(self, dim, expansion=4):
        super().__init__(dim, expansion=expansion)


block = exercises.add(
    cases=_streams,
    build=(3, 2),
    hints=(
        "forward is one line: norm, expand, F.gelu, contract, and z itself added to what comes out.",
        "nn.LayerNorm(dim), nn.Linear(dim, expansion * dim) and nn.Linear(expansion * dim, dim), under the three names.",
    ),
)(MyBlock)


@block.mistake("Nothing of z itself reaches the output: the block adds to the stream.")
class NoSkip(MyBlock):
    def forward(self, z):
        return self.contract(F.gelu(self.expand(self.norm(z))))


@block.mistake("The skip goes round the norm, too: z is added as it came in, not normalised.")
class SkipAfterNorm(MyBlock):
    def forward(self, z):
        z = self.norm(z)
        return z + self.contract(F.gelu(self.expand(z)))


@block.mistake("You normalise the sum. Here the norm stands before the first matrix.")
class PostNorm(MyBlock):
    def forward(self, z):
        return self.norm(z + self.contract(F.gelu(self.expand(z))))


@block.mistake("You normalise the message. Here the norm stands before the first matrix.")
class NormOfMessage(MyBlock):
    def forward(self, z):
        return z + self.norm(self.contract(F.gelu(self.expand(z))))


@block.mistake("The norm is not used.")
class NoNorm(MyBlock):
    def forward(self, z):
        return z + self.contract(F.gelu(self.expand(z)))


@block.mistake("Another activation: the block has GELU; yours is ReLU.")
class WithReLU(MyBlock):
    def forward(self, z):
        return z + self.contract(F.relu(self.expand(self.norm(z))))


@block.mistake("Another activation: the block has GELU; yours is SiLU.")
class WithSiLU(MyBlock):
    def forward(self, z):
        return z + self.contract(F.silu(self.expand(self.norm(z))))


@block.mistake("Nearly: this is the approximation of GELU by a tanh.")
class WithTanh(MyBlock):
    def forward(self, z):
        return z + self.contract(F.gelu(self.expand(self.norm(z)), approximate="tanh"))


@block.mistake("Where is the nonlinearity? Two matrices in a row are one matrix.")
class NoActivation(MyBlock):
    def forward(self, z):
        return z + self.contract(self.expand(self.norm(z)))


@block.mistake("GELU stands between the two matrices, once: not behind the second.")
class ActivationTwice(MyBlock):
    def forward(self, z):
        return z + F.gelu(self.contract(F.gelu(self.expand(self.norm(z)))))


@block.mistake("GELU stands between the two matrices, not behind the second.")
class ActivationLast(MyBlock):
    def forward(self, z):
        return z + F.gelu(self.contract(self.expand(self.norm(z))))


@block.mistake("GELU bends the wide vector, behind the first matrix; yours stands in front of it.")
class ActivationFirst(MyBlock):
    def forward(self, z):
        return z + self.contract(self.expand(F.gelu(self.norm(z))))


# ------------------------------------------------------------- 7. what a margin knows about probabilities


def _scored():
    yield case("one row, right and beyond the margin", torch.tensor([[2.0, -3.0]]), torch.tensor([0]))
    yield case("one row, all scores zero", torch.zeros(1, 2), torch.tensor([1]))
    yield case("a right score of 0.5", torch.tensor([[0.5, -2.0]]), torch.tensor([0]))
    yield case("a wrong score of -0.5", torch.tensor([[2.0, -0.5]]), torch.tensor([0]))
    yield case("two rows, three classes", normal(2, 3), torch.tensor([2, 0]))
    yield case("many rows, large scores", 5 * normal(5, 4), torch.tensor([3, 1, 1, 0, 2]))


@exercises.add(
    cases=_scored,
    hints=(
        "F.one_hot(target, k) is 1 for the class of each row and 0 for the others: make +1 and -1 of it.",
        "clamp(min=0), then the square; sum over the classes, mean over the rows.",
    ),
)
def my_hinge(scores, target):
    return dense.squared_hinge_loss(scores, target)


@my_hinge.mistakes(
    zero_one="Your targets are 0 and 1. For a wrong class y is -1: its score should fall below -1.",
    not_squared="This is the hinge; the loss asks for its square.",
    mean_over_classes="Sum over the classes; only the rows are averaged.",
    sum_over_rows="The rows are averaged, not added up.",
    no_maximum="Beyond its margin a score costs nothing: where is the maximum with 0?",
    sign_turned="The sign: a right score that is large must cost nothing.",
    one_per_row="One number, please: the mean over the rows is missing.",
    own_class_only="The wrong classes are missing: each of them wants a score below -1.",
    wrong_classes_only="The right class is missing: it wants a score above 1.",
    against_right="You compare with the score of the right class. Here each class stands alone: its own score against 1 or -1.",
    against_right_mean="You compare with the score of the right class (torch's multi_margin_loss). Here each class stands alone: its own score against 1 or -1.",
    halved="There is no factor one half.",
    no_margin="The margin of 1 is missing: at a score of zero something is to be paid.",
    square_of_sum="Square each term; you squared their sum.",
    classes_of_batch="one_hot needs the number of classes: the last ones may not occur in this batch.",
)
def _(scores, target, *, wrong):
    own = F.one_hot(target, -1 if wrong.classes_of_batch else scores.shape[1]).bool()
    sign = torch.where(own, 1.0, 0.0 if wrong.zero_one else -1.0) * (-1 if wrong.sign_turned else 1)
    short = (0 if wrong.no_margin else 1) - sign * scores
    if wrong.against_right or wrong.against_right_mean:
        short = 1 - scores[own][:, None] + scores
    cut = short if wrong.no_maximum else short.clamp(min=0)
    cost = cut if wrong.not_squared or wrong.square_of_sum else cut.square()
    if wrong.against_right or wrong.against_right_mean:
        cost = cost.masked_fill(own, 0.0)
    if wrong.own_class_only:
        cost = cost.masked_fill(~own, 0.0)
    if wrong.wrong_classes_only:
        cost = cost.masked_fill(own, 0.0)
    rows = cost.mean(1) if wrong.mean_over_classes or wrong.against_right_mean else cost.sum(1)
    rows = rows.square() if wrong.square_of_sum else rows
    rows = rows / 2 if wrong.halved else rows
    return rows if wrong.one_per_row else rows.sum() if wrong.sum_over_rows else rows.mean()


def _values(result):
    """Only the values count: nothing in the exercise is differentiated by the scores."""
    return result.detach() if isinstance(result, torch.Tensor) else result


@exercises.add(
    see=_values,
    cases=[
        case("a score of zero: both alike", torch.tensor([0.0])),
        case("a score between", torch.tensor([0.4])),
        case("a negative score", torch.tensor([-0.6])),
        case("beyond 1", torch.tensor([1.5, 7.0])),
        case("beyond -1", torch.tensor([-1.5, -7.0])),
        case("rows of scores, each for itself", normal(3, 4)),
    ],
    hints=(
        "Between -1 and 1 both maxima are positive: differentiate p (1 - s)^2 + (1 - p) (1 + s)^2 by s and set it to zero.",
        "That gives s = 2 p - 1. Solve for p, and cut what lies outside of 0 to 1.",
    ),
)
def my_probability(scores):
    return 0.5 * (1 + F.hardtanh(scores))


@my_probability.mistakes(
    sigmoid="The sigmoid belongs to the logistic loss. Which s makes *these* squares smallest?",
    sigmoid_of_double="Nothing curved comes out: differentiate two squares, and solve a linear equation.",
    softmax="Each class stands alone against the rest: no softmax. Which s makes these squares smallest?",
    not_clamped="Scores beyond 1 and -1 mean 1 and 0: your result leaves the range.",
    score_itself="A score of zero does not mean never: try p = 1/2 in the cost, and see which s is best.",
    upside_down="The other way round: p is the share of class k, and its score grows with p.",
    forwards="This is the score of a probability; asked is the probability of a score.",
    forwards_cut="This is the score of a probability; asked is the probability of a score.",
    rounded="This is what the hinge without a square would do. With squares a score between means something between.",
    not_halved="Too large by a factor: a score of 0 means one half.",
    halved_late="A score of 0 means one half: is it (s + 1) / 2, or s / 2 + 1?",
    beyond_is_half="A score beyond 1 means 1, and one beyond -1 means 0; yours mean one half.",
    share_of_squares="The share of a cost is no probability: differentiate the cost, and see which s is best.",
    clamped_above_only="Scores below -1 mean 0: cut on both sides.",
    clamped_below_only="Scores above 1 mean 1: cut on both sides.",
    divided_by_sum="Each class stands alone: nothing makes its probabilities add up to one, and nothing should be divided.",
)
def _(scores, *, wrong):
    p = (scores + 1) / 2
    if wrong.upside_down:
        p = 1 - p
    if wrong.not_halved:
        p = scores + 1
    if wrong.score_itself:
        p = scores
    if wrong.forwards or wrong.forwards_cut:
        p = 2 * scores - 1
    if wrong.forwards:
        return p.clamp(-1, 1)
    if wrong.sigmoid or wrong.sigmoid_of_double:
        return (scores * (2 if wrong.sigmoid_of_double else 1)).sigmoid()
    if wrong.softmax:
        return scores.softmax(-1)
    if wrong.rounded:
        return (scores > 0).to(scores)
    if wrong.not_clamped:
        return p
    if wrong.halved_late:
        return (scores / 2 + 1).clamp(0, 1)
    if wrong.beyond_is_half:
        return torch.where(scores.abs() <= 1, p, torch.full_like(p, 0.5))
    if wrong.share_of_squares:
        return (1 + scores) ** 2 / ((1 + scores) ** 2 + (1 - scores) ** 2)
    if wrong.clamped_above_only or wrong.clamped_below_only:
        return p.clamp(max=1) if wrong.clamped_above_only else p.clamp(min=0)
    p = p.clamp(0, 1)
    return p / p.sum(-1, keepdim=True) if wrong.divided_by_sum else p


# ----------------------------------------------------------------------------------------- 8. stop in time


def _replay(answer, *, losses, patience, min_delta=0.0):
    """What it says until it says True, and the weight that the model has then."""
    watcher = answer(patience, min_delta)
    model, answers = nn.Linear(1, 1, bias=False), []
    for epoch, loss in enumerate(losses):
        with torch.no_grad():
            model.weight.fill_(epoch)
        answers.append(watcher.on_epoch_end(loss, model))
        if answers[-1]:
            break
    if all(answer is None for answer in answers):
        return None  # nothing is written yet
    with torch.no_grad():
        model.weight.fill_(99)  # whoever kept a reference finds this,
    model.weight = nn.Parameter(torch.full((1, 1), -1.0))  # whoever does not restore this
    watcher.restore(model)
    weight = int(model.weight.item())
    return {"last answer": answers[-1], "epochs": len(answers), "weight that comes back": weight}


CURVE = [5.0, 4.0, 4.5, 3.0, 3.5, 3.4, 3.3, 2.0]


class MyEarlyStopping:
    def __init__(self, patience, min_delta=0.0):
        self.patience, self.min_delta, self.history = patience, min_delta, []

    def _best(self):
        best = 0
        for epoch, (loss, _) in enumerate(self.history):
            if self.history[best][0] - loss > self.min_delta:
                best = epoch
        return best

    def on_epoch_end(self, loss, model):
        self.history.append((loss, copy.deepcopy(model.state_dict())))
        return len(self.history) - 1 - self._best() >= self.patience

    def restore(self, model):
        model.load_state_dict(self.history[self._best()][1])


stopping = exercises.add(
    cases=[
        case("the loss falls, patience 1", losses=[3.0, 2.0, 1.0], patience=1),
        case("the loss rises at once", losses=[1.0, 2.0], patience=1),
        case("the last epoch is not the best one", losses=[2.0, 1.0, 1.5], patience=2),
        case("a loss that stays the same is no new best", losses=[2.0, 2.0, 2.0, 1.0], patience=2),
        case("bad epochs in a row", losses=[2.0, 2.5, 1.0, 1.5, 0.5, 0.7, 0.9], patience=2),
        case("lower than the last, not than the best", losses=[1.0, 3.0, 2.5, 2.0, 0.5], patience=3),
        case("patience 3", losses=CURVE, patience=3),
        case("patience 4", losses=CURVE, patience=4),
        case("min_delta", losses=[1.0, 0.95, 0.8, 0.75, 0.7, 0.69, 0.5], patience=2, min_delta=0.125),
        case("exactly min_delta is no new best", losses=[1.0, 0.75, 0.75, 0.75], patience=1, min_delta=0.25),
        case("small gains do not add up", losses=[1.0, 0.9, 0.8, 0.7], patience=4, min_delta=0.25),
        case("losses below zero", losses=[-1.0, -2.0, -1.5, -1.0], patience=2),
    ],
    run=_replay,
    hints=(
        "Three things are kept from epoch to epoch: the best loss, how long ago it was, and the weights that the model had then.",
        "copy.deepcopy(model.state_dict()) keeps the weights; a new best sets the count to 0, and count >= patience says stop.",
    ),
)(MyEarlyStopping)


class _Watcher:
    """Early stopping that makes mistakes on request."""

    def __init__(self, patience, min_delta, wrong):
        self.patience, self.min_delta, self.wrong = patience, min_delta, wrong
        self.best, self.last, self.waited, self.kept = math.inf, math.inf, 0, None
        if wrong.larger_is_better:
            self.best = -math.inf

    def _is_better(self, loss):
        wrong, delta = self.wrong, 0.0 if self.wrong.no_delta else self.min_delta
        delta = -delta if wrong.delta_added else delta
        than = self.last if wrong.compares_with_last else self.best
        if wrong.larger_is_better:
            return loss > than + delta
        if wrong.delta_as_share:
            return loss < than * (1 - delta) if than < math.inf else True
        return loss <= than - delta if wrong.equal_is_better else loss < than - delta

    def on_epoch_end(self, loss, model):
        wrong = self.wrong
        better, self.last = self._is_better(loss), loss
        if better:
            self.best, self.waited = loss, self.waited if wrong.counts_all else 0
            if self.kept is None or not wrong.keeps_first:
                self.kept = model.state_dict() if wrong.references else copy.deepcopy(model.state_dict())
        else:
            self.waited += 1
        if wrong.drifting_best:
            self.best = min(self.best, loss)
        if wrong.keeps_all:
            self.kept = copy.deepcopy(model.state_dict())
        stop = self.waited > self.patience if wrong.one_later else self.waited >= self.patience
        stop = self.waited + 1 >= self.patience if wrong.one_earlier else stop
        stop = self.waited == 1 if wrong.impatient else stop
        stop = not stop if wrong.answer_turned else stop
        return (stop or None) if wrong.silent else stop

    def restore(self, model):
        if not self.wrong.no_restore:
            model.load_state_dict(self.kept)


@stopping.mistakes(
    references="The last weights came back, not the best: what you kept was changed by the next steps.",
    keeps_first="The weights that come back are those of the first best: a later one takes their place.",
    keeps_all="You keep the weights of every epoch; only those of a new best are wanted.",
    no_restore="restore leaves the model as it is: load what you kept into it.",
    counts_all="Epochs *in a row*: a new best sets the count back to 0.",
    compares_with_last="A loss that is lower than the last one need not be lower than the best one.",
    one_later="You stop one epoch too late: the answer is True as soon as `patience` epochs brought nothing.",
    one_earlier="You stop one epoch too early: `patience` epochs without a new best are allowed to pass.",
    impatient="You stop at the first epoch without a new best, whatever the patience.",
    no_delta="A gain that is smaller than min_delta is no new best.",
    delta_added="The sign of min_delta: a new best lies *below* the old one by more than that.",
    delta_as_share="min_delta is a difference, not a share of the loss.",
    drifting_best="Small gains do not add up here: a loss that is no new best leaves the best as it was.",
    equal_is_better="Lower by *more* than min_delta: a loss that stays the same is no new best.",
    larger_is_better="These are losses: lower is better.",
    answer_turned="True means stop.",
    silent="Where it does not say True, it says False; yours returns nothing.",
)
def _(patience, min_delta=0.0, *, wrong):
    return _Watcher(patience, min_delta, wrong)
