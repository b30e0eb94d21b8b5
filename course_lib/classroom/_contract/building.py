"""Can the layer be saved, loaded, and built first and filled later, as large models are?"""

import inspect
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from course_lib.classroom._contract.subject import (
    SEED,
    Failure,
    NotApplicable,
    Subject,
    described,
    listed,
    map_tensors,
    other_values,
    reseed,
    tensors_in,
)

BUILDS = 8
RUBBISH = 113


def state_dict_round_trip(layer: Subject) -> None:
    """Loading the state_dict, strictly, into a copy with other weights restores the output.

    As built, after two training steps, and after each public method without arguments (``grow``, ``merge``).
    Where the layer came as a factory, the other copy is built anew under another seed: that also shows
    what the state_dict forgets, such as random features in a buffer that is not persistent.
    """
    changes: dict[str, Callable[[nn.Module], None]] = {
        "": lambda module: None,
        "two training steps": lambda m: _train(layer, m),
    }
    changes |= {f"{name}()": lambda m, name=name: getattr(m, name)() for name in _methods(layer.module)}
    for change, make in changes.items():
        source = layer.fresh()
        try:
            make(source.train(bool(change)))
            layer.call(source.eval())
        except Exception:
            if not change.endswith("()"):
                raise
            continue  # not a method for this state
        _require_loadable(layer, source, f"after {change}, " if change else "")


def _require_loadable(layer: Subject, source: nn.Module, when: str) -> None:
    target = layer.fresh() if layer.rebuild is None else layer.rebuilt(SEED + 1).eval()
    _perturb(target)
    layer.call(target)  # what is computed once, at the first call, is now computed from other weights
    try:
        target.load_state_dict(source.state_dict(), strict=True)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise Failure(
            f"{when}load_state_dict fails: {reason}; save and load the same keys and shapes"
        ) from error
    wanted, got = (tensors_in(layer.call(module))[0] for module in (source, target))
    if got.shape != wanted.shape or layer.differ(got, wanted).any():
        raise Failure(
            f"{when}loading the state_dict does not restore the output; register what it depends on as a "
            "parameter or a persistent buffer, and keep nothing that is computed from weights"
        )


def meta_build(layer: Subject) -> None:
    """Built on the meta device, given memory full of rubbish, reset_parameters makes it as good as new.

    As large models are built: ``to_empty``, then ``reset_parameters`` of every module that has it, of the
    parts before the whole (``Module.apply``). Parameters and buffers must then be finite, with the mean and
    spread that fresh builds have.
    """
    if layer.rebuild is None:
        raise NotApplicable("pass a function that builds it")
    fresh = [layer.rebuilt(SEED + i) for i in range(2 * BUILDS)]
    again = []
    for i in range(BUILDS):
        reseed(SEED + 100 + i)
        try:
            with torch.device("meta"):
                module = layer.rebuild()
        except Exception as error:
            raise Failure(
                f"cannot be built on the meta device: {described(error)}; compute start values in "
                "reset_parameters, in place, and let nothing hang on their values"
            ) from error
        module.to_empty(device="cpu")
        _spoil(module)
        module.apply(_reset)
        again.append(module)
    _require_alike(fresh, again)


def assigned(layer: Subject) -> None:
    """load_state_dict(assign=True) into the layer on the meta device restores all of it."""
    module = layer.fresh()
    state = {name: x.clone() for name, x in module.state_dict().items()}
    wanted = tensors_in(layer.call(module))[0]
    try:
        with torch.device("meta"):
            empty = layer.rebuild() if layer.rebuild is not None else layer.fresh().to("meta")
    except Exception:  # reported by meta_build
        empty = layer.fresh()
    empty = empty.to("meta").eval()
    try:
        empty.load_state_dict(state, strict=True, assign=True)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise Failure(f"load_state_dict(assign=True) fails: {reason}") from error
    left = [n for n, x in [*empty.named_parameters(), *empty.named_buffers()] if x.is_meta]
    if left:
        raise Failure(
            f"load_state_dict(assign=True) leaves {listed(left)} on the meta device; make them persistent, "
            "or compute them in forward"
        )
    try:
        got = tensors_in(layer.call(empty))[0]
    except Exception as error:
        raise Failure(
            f"after load_state_dict(assign=True): {described(error)}; hold tensors as parameters or buffers"
        ) from error
    if got.shape != wanted.shape or layer.differ(got, wanted).any():
        raise Failure("load_state_dict(assign=True) does not restore the output")


def _methods(module: nn.Module) -> list[str]:
    """Public methods of its class that can be called without arguments and that nn.Module does not have."""
    found = []
    for name, method in inspect.getmembers(type(module), inspect.isfunction):
        if name.startswith("_") or hasattr(nn.Module, name) or name in ("extra_repr", "reset_parameters"):
            continue
        rest = list(inspect.signature(method).parameters.values())[1:]
        if all(p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in rest):
            found.append(name)
    return found


def _train(layer: Subject, module: nn.Module) -> None:
    """Two training steps; without trainable parameters two calls, which may change buffers."""
    weights = [p for p in module.parameters() if p.requires_grad]
    for step in range(2):
        reseed(SEED + step)
        inputs = map_tensors(other_values, layer.inputs) if step else layer.inputs
        outputs = [y for y in tensors_in(module(*layer.arguments(inputs))) if y.requires_grad]
        if not weights or not outputs:
            continue
        gradients = torch.autograd.grad(sum(y.sum() for y in outputs), weights, allow_unused=True)
        with torch.no_grad():
            for p, g in zip(weights, gradients, strict=True):
                if g is not None:
                    p.sub_(1e-3 * g.nan_to_num(0.0, 0.0, 0.0).clamp(-1, 1))


def _spoil(module: nn.Module) -> None:
    """What fresh memory may hold: NaN, or numbers that fit nowhere."""
    for x in [*module.parameters(), *module.buffers()]:
        x.data.fill_(math.nan if x.is_floating_point() or x.is_complex() else RUBBISH)


def _require_alike(fresh: list[nn.Module], again: list[nn.Module]) -> None:
    def values(modules: list[nn.Module]) -> dict[str, Tensor]:
        tensors = [dict([*m.named_parameters(), *m.named_buffers()]) for m in modules]
        return {name: torch.stack([_real(t[name]) for t in tensors]) for name in tensors[0]}

    wanted, got = values(fresh), values(again)
    wrong = {name: text for name, a in wanted.items() if (text := _unlike(a, got[name]))}
    if wrong:
        raise Failure(
            f"after to_empty and reset_parameters {listed(list(wrong))} is not as built: "
            f"{next(iter(wrong.values()))}; every module with parameters or buffers needs "
            "reset_parameters, which sets them all, and which __init__ calls"
        )


def _reset(module: nn.Module) -> None:
    if not callable(getattr(module, "reset_parameters", None)):
        return
    try:
        module.reset_parameters()
    except Exception as error:
        raise Failure(f"reset_parameters of {type(module).__name__} fails: {described(error)}") from error


def _real(x: Tensor) -> Tensor:
    x = x.detach()
    return (torch.view_as_real(x) if x.is_complex() else x).double()


def _unlike(fresh: Tensor, again: Tensor) -> str:
    """How draws differ from fresh ones in distribution; empty where they do not."""
    if (fresh.isfinite().all() and not again.isfinite().all()) or (
        (again == RUBBISH).any() and not (fresh == RUBBISH).any()
    ):
        return "it still holds what was in memory"
    a, b = fresh.nan_to_num(), again.nan_to_num()
    if not a.numel():
        return ""
    if (a == a[0]).all():
        return "" if torch.allclose(b, a[: len(b)], rtol=1e-6, atol=0) else "it is constant, and another"
    mean, spread = a.mean(), a.std(correction=0)
    # Six standard errors of a mean and of a spread; every entry of every build counts as one draw.
    allowed = 6 * spread * (1 / a.numel() + 1 / b.numel()) ** 0.5
    if (b.mean() - mean).abs() <= allowed and (b.std(correction=0) - spread).abs() <= allowed:
        return ""
    return f"mean {b.mean():.3g}, spread {b.std(correction=0):.3g}; fresh {mean:.3g} and {spread:.3g}"


@torch.no_grad()
def _perturb(module: nn.Module) -> None:
    reseed(SEED + 2)
    for x in tensors_in(module.state_dict()):
        if x.is_floating_point():
            x.add_(torch.randn(x.shape).to(x))
