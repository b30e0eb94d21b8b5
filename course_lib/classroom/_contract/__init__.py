"""The contract behind ``check_layer``: the table of its checks, in the order of the report.

A check takes a ``Subject``. It returns if the layer passes, and raises ``Failure`` (what was seen; the likely
fix) or ``NotApplicable`` (why). The first line of its docstring documents it. The files: ``running`` (one
call), ``gradients``, ``portable`` (save, copy, cast, move, export, print), ``axes`` (batch and time).
"""

from collections.abc import Callable

from course_lib.classroom._contract.axes import batch_independent, causal, permutation_equivariant
from course_lib.classroom._contract.gradients import gradcheck, gradients
from course_lib.classroom._contract.portable import (
    deepcopy_pickle,
    dtypes,
    export,
    meta_device,
    short_repr,
    state_dict_round_trip,
)
from course_lib.classroom._contract.running import (
    eval_deterministic,
    input_unmodified,
    output_scale,
    output_shape_dtype,
    wrong_last_dim,
)
from course_lib.classroom._contract.subject import Subject

__all__ = ["CHECKS"]

CHECKS: dict[str, Callable[[Subject], None]] = {
    "output_shape_dtype": output_shape_dtype,
    "input_unmodified": input_unmodified,
    "eval_deterministic": eval_deterministic,
    "gradients": gradients,
    "gradcheck": gradcheck,
    "state_dict_round_trip": state_dict_round_trip,
    "deepcopy_pickle": deepcopy_pickle,
    "dtypes": dtypes,
    "meta_device": meta_device,
    "batch_independent": batch_independent,
    "causal": causal,
    "permutation_equivariant": permutation_equivariant,
    "export": export,
    "repr": short_repr,
    "output_scale": output_scale,
    "wrong_last_dim": wrong_last_dim,
}
