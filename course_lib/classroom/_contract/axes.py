"""Which entries of the output depend on which entries of the input, along the batch and along time."""

from typing import Any

import torch
from torch import Tensor, nn

from course_lib.classroom._contract.subject import Failure, NotApplicable, Subject, map_tensors, tensors_in

MOST_STEPS = 16  # of a long sequence, only so many time steps are perturbed


def batch_independent(layer: Subject) -> None:
    """Changing row 1 of the batch changes no other row, but must in training if mixes_batch is declared."""
    if layer.x is None or layer.x.ndim < 2 or len(layer.x) < 2:
        raise NotApplicable("the first input has no two rows")
    if layer.output().shape[:1] != layer.x.shape[:1]:
        raise NotApplicable("the output has no row for each row of the input")
    if _rows_mix(layer, train=False):
        hint = " (mixes_batch allows it in training mode only)" if layer.traits.mixes_batch else ""
        raise Failure(
            f"row 1 changes other rows in evaluation mode{hint}; reduce over the features, not over axis 0 "
            "(axis 0 of the input is taken for the batch)"
        )
    mixes = _rows_mix(layer, train=True)
    if layer.house_rules and mixes and not layer.traits.mixes_batch:
        raise Failure(
            "row 1 changes other rows in training mode; declare mixes_batch=True, or keep axis 0 apart"
        )
    if layer.traits.mixes_batch and not mixes:
        raise Failure(
            "mixes_batch is declared, but no row depends on another in training; drop the declaration"
        )


def causal(layer: Subject) -> None:
    """If declared, no output depends on a later input along axis 1; if not, it is not causal by accident.

    The second half looks only at inputs ``(b, t, d)`` and token ids ``(b, t)``, and complains only where some
    output depends on an earlier position and none on a later one: a position-wise layer is left alone.
    """
    x, declared = layer.x, layer.traits.causal
    sequence = x is not None and (x.ndim == 3 or (x.ndim == 2 and not x.is_floating_point()))
    if not declared and not sequence:
        raise NotApplicable("not declared, and the first input is neither (b, t, d) nor token ids (b, t)")
    if not declared and not layer.house_rules:
        raise NotApplicable("not declared")
    if not _share_axis_1(layer):
        if declared:
            raise Failure(
                "declared, but input and output share no axis 1 of two or more steps; change the example"
            )
        raise NotApplicable("input and output share no axis 1 of two or more steps")
    for train in (False, True) if declared and not layer.traits.mixes_batch else (False,):
        pairs = _dependencies(layer, train=train)
        early = sorted((t, s) for t, s in pairs if t < s)
        if declared and early:
            t, s = early[0]
            mode = "training" if train else "evaluation"
            raise Failure(
                f"the output at time {t} depends on the input at time {s} in {mode} mode; mask the future"
            )
        if not declared and not early and any(t > s for t, s in pairs):
            raise Failure("outputs depend on earlier positions only; declare causal=True, or remove the mask")


def streaming(layer: Subject) -> None:
    """If the layer has ``step``, steps and halves of ``prefill`` give forward, in value and gradient."""
    module = layer.fresh(dtype=layer.exact)
    if not callable(getattr(module, "step", None)):
        raise NotApplicable("the layer has no method step(x, state)")
    if layer.x is None or layer.x.ndim != 3 or layer.x.shape[1] < 2 or not layer.x.is_floating_point():
        raise Failure(
            "it has step, but the example is no (b, t, d) of two or more tokens; change the example"
        )
    x = layer.arguments((layer.x,), dtype=layer.exact)[0].requires_grad_()
    half = x.shape[1] // 2
    with torch.no_grad():
        whole, (stepped, states) = module(x), _by_steps(module, x)
        wrong = layer.differ(whole, stepped).transpose(0, 1).flatten(1).any(1).nonzero()
        if len(wrong):
            raise Failure(f"token by token the output at time {int(wrong[0])} is not that of forward")
        if layer.differ(module.step(x[:, half], states[half - 1])[0], whole[:, half]).any():
            raise Failure(
                "a second step from the same state gives otherwise: step changes its state in place"
            )
        first, state = module.prefill(x[:, :half])
        later, _ = module.prefill(x[:, half:], state)
    if layer.differ(torch.cat([first, later], 1), whole).any():
        raise Failure(
            "prefill in two halves is not forward: continue from the state, and return the last one"
        )
    weights = torch.randn_like(whole)
    slopes = [torch.autograd.grad((weights * y).sum(), x)[0] for y in (module(x), _by_steps(module, x)[0])]
    if layer.differ(*slopes).any():
        raise Failure("token by token the gradient of the input is not that of forward; detach no state")


def _by_steps(module: nn.Module, x: Tensor) -> tuple[Tensor, list[Any]]:
    """The outputs of all tokens, one after the other, and the state behind each."""
    outputs, states, state = [], [], None
    for token in x.unbind(1):
        y, state = module.step(token, state)
        outputs.append(y)
        states.append(state)
    return torch.stack(outputs, 1), states


def permutation_equivariant(layer: Subject) -> None:
    """If declared, permuting axis 1 of the inputs permutes axis 1 of the output in the same way."""
    if not layer.traits.permutation_equivariant:
        raise NotApplicable("not declared")
    if not _share_axis_1(layer):
        raise Failure("declared, but input and output share no axis 1 of two or more; change the example")
    lead = layer.x.shape[:2]
    order = torch.arange(lead[1]).roll(1)
    if lead[1] > 2:  # a mere rotation would let a circular convolution pass
        order[[0, 1]] = order[[1, 0]]
    order = order.to(layer.x.device)

    def permute(x: Tensor) -> Tensor:
        return x[:, order] if x.shape[:2] == lead else x

    before = layer.output(dtype=layer.exact)
    after = layer.output(map_tensors(permute, layer.inputs), dtype=layer.exact)
    if layer.differ(after, before[:, order]).any():
        raise Failure(
            "permuting axis 1 of the input does not permute the output; "
            "drop the declaration, or look for positions, masks and windows"
        )


def _rows_mix(layer: Subject, *, train: bool) -> bool:
    """True where another row 1 of the inputs changes any other row of the output."""
    modules = [layer.fresh(train=train, dtype=layer.exact) for _ in range(2)]
    others = [row for row in range(len(layer.x)) if row != 1]
    changed = layer.changed(0, 1)
    # A layer that declares it may begin to mix after its first training steps only.
    for _ in range(3 if train and layer.traits.mixes_batch else 1):
        before, after = (
            tensors_in(layer.call(module, inputs, dtype=layer.exact))[0]
            for module, inputs in zip(modules, (layer.inputs, changed), strict=True)
        )
        if layer.differ(before, after)[others].any():
            return True
    return False


def _share_axis_1(layer: Subject) -> bool:
    if layer.x is None or layer.x.ndim < 2 or layer.x.shape[1] < 2:
        return False
    return layer.output().shape[1:2] == layer.x.shape[1:2]


def _dependencies(layer: Subject, *, train: bool) -> list[tuple[int, int]]:
    """Pairs (t, s) such that the output at time t depends on the input at time s."""
    length = layer.x.shape[1]
    steps = sorted({round(i * (length - 1) / (MOST_STEPS - 1)) for i in range(MOST_STEPS)})
    before = layer.output(train=train, dtype=layer.exact)
    pairs = []
    for s in steps:
        after = layer.output(layer.changed(1, s), train=train, dtype=layer.exact)
        moved = layer.differ(before, after).transpose(0, 1).flatten(1).any(1)
        pairs += [(int(t), s) for t in moved.nonzero()]
    return pairs
