"""Scores out of sample: folds, the point at which to stop, and the linear map that a network must beat."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.contexts import isolated
from course_lib.registry import implements
from course_lib.training.hooks import EarlyStopping
from course_lib.training.loop import evaluate, fit


@implements("keras-course")
def stopping_point(
    losses: Sequence[float], *, patience: int, min_delta: float = 0.0
) -> tuple[int | None, int | None]:
    r"""Where early stopping ends, and which measurement's weights it brings back, on a recorded curve.

    .. math:: t \text{ is a new best} \iff v_t < v_{\text{best}} - \delta, \qquad
        \text{stop at the first } t \text{ with } t - t_{\text{best}} = P

    Args:
        losses: validation losses v in the order of measurement.
        patience: P, so many measurements in a row without a new best end the run.
        min_delta: δ, how much lower a loss must be to count as better.

    Returns: the index of the last measurement that is made (None if the run goes to its end) and that of the
        best (None if no loss was a number).

    Raises:
        ValueError: for a patience below 1 or a negative ``min_delta``.

    Paper: Applications of Deep Neural Networks with Keras - https://arxiv.org/abs/2009.05673

    ``EarlyStopping(..., patience=P)`` stops by this rule with δ = 0; here one curve answers for all P and δ.

    >>> stopping_point([1.0, 0.5, 0.6, 0.4, 0.7, 0.8, 0.1], patience=2)
    (5, 3)
    """
    if patience < 1 or min_delta < 0:
        raise ValueError(f"need patience >= 1 and min_delta >= 0, got {patience} and {min_delta}")
    best, lowest, waited = None, float("inf"), 0
    for t, loss in enumerate(losses):
        if loss < lowest - min_delta:
            best, lowest, waited = t, loss, 0
        else:
            waited += 1
        if waited >= patience:
            return t, best
    return None, best


@implements("keras-course")
def kfold_indices(
    n: int, folds: int, *, seed: int = 0
) -> list[tuple[Int64[Tensor, "n"], Int64[Tensor, "m"]]]:
    """Cut a shuffled range into folds; each is held out once.

    The first ``n % folds`` folds have one row more than the others.

    Args:
        n: number of rows.
        folds: number of folds.
        seed: of the shuffle.

    Returns: for each fold the rows to train on and the rows held out, both in increasing order.

    Raises:
        ValueError: unless there are at least two folds and a row for each.

    Paper: Applications of Deep Neural Networks with Keras - https://arxiv.org/abs/2009.05673

    >>> [held_out.tolist() for _, held_out in kfold_indices(5, 2)]
    [[0, 1, 4], [2, 3]]
    """
    if not 2 <= folds <= n:
        raise ValueError(f"need 2 <= folds <= rows, got {folds} folds of {n} rows")
    shuffled = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    parts = shuffled.tensor_split(folds)  # longer ones first
    return [
        (torch.cat([*parts[:i], *parts[i + 1 :]]).sort().values, held_out.sort().values)
        for i, held_out in enumerate(parts)
    ]


@implements("keras-course")
def kfold_scores(
    make_model: Callable[[], nn.Module],
    data: tuple[Tensor, Tensor],
    *,
    folds: int = 5,
    validation: float = 0.2,
    metric: str | Callable[[Tensor, Tensor], Tensor] = "accuracy",
    seed: int = 0,
    patience: int | None = None,
    every: int = 100,
    **fit_options: object,
) -> list[float]:
    r"""Score a recipe out of sample: a new model per fold, its length of training chosen inside the fold.

    .. math:: \text{score}_i = m\bigl(\text{fit}(T_i;\; \text{stopped on } V_i),\; F_i\bigr), \qquad
        T_i \cup V_i \cup F_i = \text{all rows, disjoint}

    Args:
        make_model: makes the model anew; called once per fold, after the generator is seeded.
        data: pair (x, y) with one row per sample.
        folds: number of folds F.
        validation: share of the rows outside the fold that early stopping looks at, V.
        metric: what :func:`~course_lib.training.loop.evaluate` measures on the fold.
        seed: of folds, models and batches.
        patience: measurements without a new best that end a fold's training; None trains to the end.
        every: steps between two measurements.
        fit_options: for :func:`~course_lib.training.loop.fit`; ``steps`` at least.

    Raises:
        ValueError: for folds or shares that leave a part without rows.

    Paper: Applications of Deep Neural Networks with Keras - https://arxiv.org/abs/2009.05673

    The rows of the fold are seen by no part of the training, neither by the weights nor by the stopping.
    Standardise inside the model or by constants: statistics of all rows would look into the fold.

    >>> x = torch.cat([torch.randn(20, 2) - 3, torch.randn(20, 2) + 3])
    >>> kfold_scores(lambda: nn.Linear(2, 2), (x, torch.arange(40) // 20), folds=4, steps=60, lr=0.1)
    [1.0, 1.0, 1.0, 1.0]
    """
    x, y = data
    if not 0 < validation < 1:
        raise ValueError(f"validation must be a share between 0 and 1, got {validation}")
    scores = []
    for i, (rest, held_out) in enumerate(kfold_indices(len(x), folds, seed=seed)):
        order = rest[torch.randperm(len(rest), generator=torch.Generator().manual_seed(seed + i))]
        inner = max(1, round(validation * len(order)))
        if inner == len(order):
            raise ValueError(f"{len(order)} rows outside the fold leave none to train on; use fewer folds")
        with isolated(seed + i):
            model = make_model()
        watched, used = order[:inner], order[inner:]
        rows = x[watched], y[watched]
        hooks = [EarlyStopping(rows, patience=patience, every=every)] if patience is not None else []
        fit(model, (x[used], y[used]), seed=seed + i, hooks=hooks, **fit_options)
        scores.append(evaluate(model, (x[held_out], y[held_out]), metric=metric))
    return scores


# Of scikit-learn's digits, as ``load("digits")`` splits them; a test computes it.
LINEAR_DIGITS = 0.9175


def linear_accuracy(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> float:
    """Test accuracy of the linear map, with an offset, that fits the classes with the smallest squared error.

    The simple thing that a trained network must beat before anything is concluded from it.

    Args:
        train: inputs of any shape, and classes from 0 on, each of which occurs.
        test: the same, held out.

    >>> x = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    >>> linear_accuracy((x, torch.tensor([0, 0, 1, 1])), (x + 0.1, torch.tensor([0, 0, 1, 0])))
    0.75
    """
    (x, y), (held_out, expected) = train, test
    rows, others = (F.pad(part.flatten(1).double(), (0, 1), value=1.0) for part in (x, held_out))
    # Constant inputs, as at the rim of an image, make the system singular; this driver takes the shortest.
    matrix = torch.linalg.lstsq(rows, F.one_hot(y).double(), driver="gelsd").solution
    return ((others @ matrix).argmax(1) == expected).double().mean().item()
