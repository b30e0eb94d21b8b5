"""Layers made of them: top-k backwards, a bilinear layer taken apart, a test to mend, a network that fits."""

import torch
from torch import nn

from course_lib.classroom.answers import case, normal, without
from course_lib.exercises.layers.activation._chapter import exercises


def _rows():
    def given(label, x, k):
        return case(label, normal(*x.shape, seed=4), x, k)

    yield given("one of two", torch.tensor([[1.0, 2.0]]), 1)
    yield given("fewer than k are positive", torch.tensor([[-1.0, 2.0, -3.0]]), 2)
    yield given("none is positive", torch.tensor([[-1.0, -2.0]]), 1)
    yield given("all are kept", torch.tensor([[0.5, 3.0, 1.0]]), 3)
    yield given("each row for itself", torch.tensor([[5.0, 6.0, 1.0], [0.1, 0.2, -4.0]]), 1)
    yield given("larger", normal(4, 7), 3)


@exercises.add(
    cases=_rows,
    rules=[without("autograd")],
    hints=(
        "The k-th largest of each row is x.topk(k, dim=-1).values[:, -1:]; who is kept is at least as large.",
        "The gradient passes where an entry is kept and positive, and is zero elsewhere.",
    ),
)
def my_topk_backward(dy, x, k):
    hot = torch.zeros_like(x).scatter(-1, x.topk(k, dim=-1).indices, 1.0)
    return dy * hot * (x > 0)


@my_topk_backward.mistakes(
    of_relu="That is the backward pass of ReLU alone: entries that are not among the k largest get no gradient.",
    top_gradients="The k largest entries of x pass, not the k largest gradients.",
    without_relu="Negative entries get no gradient, even among the k largest.",
    of_batch="The k largest of each row, not of the whole batch.",
    of_columns="The k largest of each row, not of each column.",
    by_size="The largest, not those of the largest size: ReLU comes first.",
    last_lost="The k-th largest belongs to the k largest.",
    values_too="The gradient passes as it is; it is not multiplied by the entry.",
    smallest="Those are the k smallest.",
)
def _(dy, x, k, *, wrong):
    source = dy if wrong.top_gradients else x.abs() if wrong.by_size else -x if wrong.smallest else x
    if wrong.of_batch:
        kept = source >= source.flatten().topk(min(k, source.numel())).values[-1]
    elif wrong.of_columns:
        kept = source >= source.topk(min(k, len(source)), dim=0).values[-1:]
    else:
        last = source.topk(k, dim=-1).values[:, -1:]
        kept = source > last if wrong.last_lost else source >= last
    if wrong.of_relu:
        kept = torch.ones_like(kept)
    kept = kept if wrong.without_relu else kept & (x > 0)
    return dy * kept * (x if wrong.values_too else 1)


# ------------------------------------------------------------------------ a bilinear layer taken apart


def _weights():
    def given(label, o, h, d):
        return case(label, normal(h, d), normal(h, d, seed=1), normal(o, h, seed=2))

    yield given("one neuron, two inputs", 1, 1, 2)
    yield given("two neurons", 1, 2, 2)
    yield given("two outputs", 2, 1, 2)
    yield given("all sizes differ", 2, 5, 3)


@exercises.add(
    cases=_weights,
    hints=(
        'The form that is not symmetric is einsum("ok,ki,kj->oij", out, w1, w2): one sum over k, for both rows.',
        "Symmetric is the mean of a matrix and its transpose.",
    ),
)
def my_forms(w1, w2, out):
    form = sum(out[:, k, None, None] * torch.outer(w1[k], w2[k]) for k in range(len(w1)))
    return (form + form.mT) / 2


@my_forms.mistakes(
    not_symmetric="Your forms give the right outputs, but are not symmetric: [i, j] and [j, i] share equally.",
    not_halved="Half of the sum, please: both orders together make the form.",
    sums_first="Each neuron k has its own pair of rows; sum over k at the end, once.",
    antisymmetric="The difference of a matrix and its transpose is the part that no output sees.",
    one_matrix="Both matrices are needed: w1 for one factor, w2 for the other.",
    no_out="out is missing: it weighs the neurons for each output.",
)
def _(w1, w2, out, *, wrong):
    if wrong.one_matrix:
        w2 = w1
    if wrong.no_out:
        out = torch.ones_like(out)
    form = torch.einsum("ok,ki,lj->oij" if wrong.sums_first else "ok,ki,kj->oij", out, w1, w2)
    if wrong.not_symmetric:
        return form
    if wrong.antisymmetric:
        return (form - form.mT) / 2
    return form + form.mT if wrong.not_halved else (form + form.mT) / 2


def _forms():
    def given(label, o, d, n, r):
        a = normal(o, d, d)
        return case(label, (a + a.mT) / 2, normal(n, d, seed=3), r)

    yield case(
        "a diagonal form, one of two",
        torch.tensor([[[1.0, 0.0], [0.0, -3.0]]]),
        torch.tensor([[1.0, 2.0]]),
        1,
    )
    yield given("one input, one of two", 1, 2, 1, 1)
    yield given("all of them: nothing is lost", 1, 3, 2, 3)
    yield given("two outputs", 2, 3, 4, 2)
    yield given("larger", 3, 6, 5, 2)


@exercises.add(
    cases=_forms,
    hints=(
        "torch.linalg.eigh takes the whole batch; values.abs().topk(r, -1).indices names those to keep.",
        "x @ vectors has the axes (o, n, s): the projections on the columns. Square, weigh by the values kept, add up.",
    ),
)
def my_rebuilt(forms, x, r):
    values, vectors = torch.linalg.eigh(forms)
    keep = torch.zeros_like(values).scatter(-1, values.abs().topk(r, dim=-1).indices, 1.0)
    return torch.einsum("os,ons->no", values * keep, (x @ vectors).square())


@my_rebuilt.mistakes(
    by_signed_value="The largest absolute value: a strong negative direction counts as well.",
    rows_for_columns="eigh returns eigenvectors as columns; you took rows.",
    not_squared="The projection is squared.",
    absolute_in_the_sum="The absolute value chooses; in the sum stands the eigenvalue with its sign.",
    smallest="You kept the smallest.",
    no_values="Each square is weighed by its eigenvalue.",
)
def _(forms, x, r, *, wrong):
    values, vectors = torch.linalg.eigh(forms)
    order = values if wrong.by_signed_value else values.abs()
    top = (-order if wrong.smallest else order).topk(r, dim=-1).indices
    weight = (
        values.abs() if wrong.absolute_in_the_sum else torch.ones_like(values) if wrong.no_values else values
    )
    keep = torch.zeros_like(values).scatter(-1, top, 1.0)
    projections = x @ (vectors.mT if wrong.rows_for_columns else vectors)
    squares = projections if wrong.not_squared else projections.square()
    return torch.einsum("os,ons->no", weight * keep, squares)


# -------------------------------------------------------------------------------------- find the bugs


class _Along(nn.Module):
    """A layer along the axis of tokens."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x.mT).mT


class _Average(nn.Module):
    """Every token becomes the mean of all."""

    def forward(self, x):
        return x.mean(1, keepdim=True).expand_as(x)


class _Before(nn.Module):
    """Every token sees the one some steps before it."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def forward(self, x):
        return torch.cat([x[:, : self.steps], x[:, : -self.steps]], 1)


class _First(nn.Module):
    """Every token is multiplied by the last one's first feature."""

    def forward(self, x):
        return x * x[:, -1:, :1]


def _layers():
    torch.manual_seed(0)
    order = torch.tensor([2, 0, 3, 1])
    x = normal(1, 4, 2)
    for label, layer in (
        ("tokens one by one", nn.Sequential(nn.Linear(2, 2), nn.ReLU())),
        ("a mean: blind, and tokens meet", _Average()),
        ("a mixer: sees the order", _Along(nn.Linear(4, 4))),
        ("each token sees the one before it: the last one is seen by nobody else", _Before(1)),
        ("each token sees the one two steps before it", _Before(2)),
        ("all see the last token", _First()),
    ):
        yield case(label, layer.double(), x, order)


@exercises.add(
    cases=_layers,
    see=list,
    hints=(
        "If the tokens are permuted, what should the outputs of a blind layer be compared with?",
        "Tokens meet if *any* token's output changes with *another* one. Which outputs are compared, after which change?",
        "Change each token in turn, on a copy, and look at all other tokens.",
    ),
)
def my_token_test(layer, x, order):
    with torch.no_grad():
        y = layer(x)
        blind = torch.allclose(layer(x[:, order]), y[:, order], atol=1e-8)
        meet = False
        for t in range(x.shape[1]):
            changed = x.clone()
            changed[:, t] += 1
            others = torch.arange(x.shape[1]) != t
            meet |= not torch.allclose(layer(changed)[:, others], y[:, others], atol=1e-8)
    return [blind, meet]


@my_token_test.mistakes(
    invariant="You compare with the unpermuted output. The outputs of a blind layer are permuted in the same way.",
    looks_at_itself="The changed token's own output changes in any case: look at the others.",
    last_changed_only="You change the last token only; in some layers nobody looks at the last one.",
    first_looked_at="You look at one other token only; it may be one that does not see the changed one.",
    upside_down="The second answer is upside down: an output that changes with another token means that they meet.",
    answers_exchanged="First blind, then meet.",
)
def _(layer, x, order, *, wrong):
    with torch.no_grad():
        y = layer(x)
        blind = torch.allclose(layer(x[:, order]), y if wrong.invariant else y[:, order], atol=1e-8)
        meet = False
        for t in range(x.shape[1])[-1 if wrong.last_changed_only else None :]:
            changed = x.clone()
            changed[:, t] += 1
            others = torch.arange(x.shape[1]) != t
            if wrong.looks_at_itself:
                others = torch.ones_like(others)
            if wrong.first_looked_at:
                others = torch.arange(x.shape[1]) == (1 if t == 0 else 0)
            meet |= not torch.allclose(layer(changed)[:, others], y[:, others], atol=1e-8)
    if wrong.upside_down:
        meet = not meet
    return [meet, blind] if wrong.answers_exchanged else [blind, meet]


# -------------------------------------------------------------------------------- a network that fits


def _networks():
    def given(label, n, i, h, o, act):
        return case(label, normal(n, i), normal(h, i, seed=1), normal(h, seed=2), normal(o, h, seed=3), act)

    yield given("one neuron", 1, 1, 1, 1, torch.tanh)
    yield given("two neurons", 2, 1, 2, 1, torch.tanh)
    yield given("all sizes differ", 3, 2, 5, 4, torch.sigmoid)


@exercises.add(
    cases=_networks,
    hints=("Rows are samples: x @ w1.T.", "activation(x @ w1.T + b1) @ w2.T."),
)
def my_network(x, w1, b1, w2, activation):
    return nn.functional.linear(activation(nn.functional.linear(x, w1, b1)), w2)


@my_network.mistakes(
    no_bias="The bias is missing.",
    bias_outside="The bias comes before the activation.",
    no_activation="The activation is missing: two matrices in a row are one.",
    activated_twice="No activation after the second matrix.",
    activated_input="The activation comes after the first matrix.",
)
def _(x, w1, b1, w2, activation, *, wrong):
    act = (lambda h: h) if wrong.no_activation else activation
    h = (act(x) if wrong.activated_input else x) @ w1.mT
    if wrong.bias_outside:
        h = act(h) + b1
    elif wrong.activated_input:
        h = h + b1
    else:
        h = act(h if wrong.no_bias else h + b1)
    return act(h @ w2.mT) if wrong.activated_twice else h @ w2.mT
