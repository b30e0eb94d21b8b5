"""Does the layer compute in the dtype that it is given, and stay accurate in a narrow one?"""

import torch
from torch import Tensor

from course_lib.classroom._contract.subject import (
    SEED,
    Failure,
    NotApplicable,
    Subject,
    described,
    gap,
    map_tensors,
    reseed,
    tensors_in,
)

LARGE = 100.0
# How much the relative error of half precision may exceed what rounding the inputs alone would do.
AMPLIFICATION, ALLOWED = 20.0, 0.02


def dtypes(layer: Subject) -> None:
    """Cast to float64 and to bfloat16, the layer runs on inputs of that dtype and returns it."""
    for dtype in (torch.float64, torch.bfloat16):
        try:
            got = layer.output(dtype=dtype).dtype
        except Exception as error:
            raise Failure(f"{dtype}: {described(error)}; create constants with dtype=x.dtype") from error
        if got != dtype:
            raise Failure(
                f"{dtype} in, {got} out; create constants with dtype=x.dtype, or return y.to(x.dtype)"
            )


def autocast(layer: Subject) -> None:
    """Under torch.autocast, behind a layer that returns bfloat16 or float16, all is finite, backwards too.

    The weights stay in float32, the inputs arrive in the narrow dtype; the output has one of the two.
    """
    if {p.dtype for p in layer.module.parameters() if p.is_floating_point()} - {torch.float32}:
        raise NotApplicable("the weights are not float32")
    for dtype in (torch.bfloat16, torch.float16):
        for train in (False, True):
            inputs = layer.arguments(dtype=dtype)
            plain, wanted = _output_and_gradients(layer, layer.arguments(inputs, dtype=torch.float32), train)
            try:
                with torch.autocast("cpu", dtype=dtype):
                    y, gradients = _output_and_gradients(layer, inputs, train)
            except Exception as error:
                raise Failure(
                    f"under autocast to {dtype} behind another layer: {described(error)}; bring the two "
                    "sides of an operation to one dtype, x.to(weight.dtype)"
                ) from error
            if y.dtype not in (dtype, torch.float32):
                raise Failure(f"under autocast to {dtype} the output has {y.dtype}")
            found = {"the output": (y, plain)} | {n: (gradients[n], g) for n, g in wanted.items()}
            for what, (narrow, wide) in found.items():
                if wide.numel() and wide.abs().amax() < 6e4 and not narrow.isfinite().all():
                    raise Failure(
                        f"under autocast to {dtype} {what} is not finite, in float32 it is; scale before "
                        "the product, or form sums and squares in float32"
                    )


def _output_and_gradients(layer: Subject, inputs: tuple, train: bool) -> tuple[Tensor, dict[str, Tensor]]:
    module = layer.fresh(train=train)
    weights = {f"the gradient of {n}": p for n, p in module.named_parameters() if p.requires_grad}
    reseed()
    y = tensors_in(module(*layer.arguments(inputs)))[0]
    if not y.requires_grad:
        return y, {}
    found = torch.autograd.grad(
        y.float().sum(), list(weights.values()), allow_unused=True, materialize_grads=True
    )
    return y.detach(), dict(zip(weights, found, strict=True))


def half_precision(layer: Subject) -> None:
    """In float16, at 100 times the input, the output is finite and near that of float64.

    Both have the weights and inputs of float16. Near means within 2 %, or within 20 times of what rounding
    the inputs and weights to float16 once more would change: a problem that is badly conditioned is not the
    layer's fault. Nothing is asked where the exact output does not fit into float16.
    """
    if layer.exact is None:
        raise NotApplicable("the layer does not run in float64, see dtypes")
    reseed()
    large = map_tensors(
        lambda x: (LARGE * x).clamp(-6e4, 6e4) if x.is_floating_point() else x,
        layer.arguments(dtype=torch.float16),
    )
    module = layer.fresh(dtype=torch.float16)
    try:
        got = tensors_in(layer.call(module, large))[0]
    except Exception as error:
        if "not implemented for 'Half'" in str(error):
            raise NotApplicable("this processor has no float16 for one of its operations") from error
        raise Failure(f"float16: {described(error)}; create constants with dtype=x.dtype") from error
    wanted = _in_double(layer, large, noise=0)
    if not wanted.isfinite().all() or wanted.abs().max() > 6e4:
        raise NotApplicable("the exact output does not fit into float16")
    if not got.isfinite().all():
        raise Failure(
            f"NaN or infinity in float16 for an input {LARGE:g} times as large, {wanted.abs().max():.3g} at "
            "most in float64; scale before the product, or square and sum in float32"
        )
    error = _relative(got.double(), wanted)
    rounding = max(_relative(_in_double(layer, large, noise=i), wanted) for i in (1, 2, 3))
    if error > max(ALLOWED, AMPLIFICATION * rounding):
        raise Failure(
            f"relative error {error:.2g} in float16 for an input {LARGE:g} times as large (rounding the "
            f"input alone: {rounding:.1g}); form statistics, positions and long sums in float32"
        )


def default_dtype(layer: Subject) -> None:
    """Built while torch's default dtype is bfloat16, it runs on inputs of that dtype, in both modes."""
    if layer.factory is None:
        raise NotApplicable("pass a function that builds it")
    before = torch.get_default_dtype()
    reseed()
    try:
        torch.set_default_dtype(torch.bfloat16)
        module, *inputs = layer.factory()
        dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.bfloat16)
        for train in (False, True):
            y = tensors_in(layer.call(module.train(train), tuple(inputs), dtype=dtype))[0]
            if not y.isfinite().all():
                raise Failure("built under default dtype bfloat16, its output is not finite")
    except Failure:
        raise
    except Exception as error:
        raise Failure(
            f"under default dtype bfloat16: {described(error)}; compute start values in float32, then cast"
        ) from error
    finally:
        torch.set_default_dtype(before)


def _in_double(layer: Subject, inputs: tuple, *, noise: int) -> Tensor:
    """The output in float64; with noise, after inputs and weights moved by the rounding error of float16."""
    exact = layer.fresh(dtype=torch.float16).to(torch.float64)
    reseed(SEED + noise)

    def moved(x: Tensor) -> Tensor:
        if not x.is_floating_point():
            return x
        return x.double() * (1 + (2.0**-11 * (2 * torch.rand(x.shape) - 1).to(x.device) if noise else 0))

    with torch.no_grad():
        for x in [*exact.parameters(), *exact.buffers()]:
            x.copy_(moved(x))
    return tensors_in(layer.call(exact, map_tensors(moved, inputs)))[0]


def _relative(a: Tensor, b: Tensor) -> float:
    size = b.square().mean().sqrt().item()
    return (gap(a, b).square().mean().sqrt().item()) / size if size else gap(a, b).max().item()
