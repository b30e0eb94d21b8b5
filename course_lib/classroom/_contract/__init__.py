"""The contract behind ``check_layer``: the table of its checks, in the order of the report.

A check takes a ``Subject``. It returns if the layer passes, and raises ``Failure`` (what was seen; the likely
fix) or ``NotApplicable`` (why). The first line of its docstring documents it. The files: ``running`` (one
call), ``gradients``, ``transforms`` (compile, recompute, stack, export), ``building`` (save, load, fill),
``precision``, ``portable`` (copy, move, print), ``axes`` (batch and time).
"""

from collections.abc import Callable

from course_lib.classroom._contract.axes import (
    batch_independent,
    causal,
    permutation_equivariant,
    streaming,
)
from course_lib.classroom._contract.building import assigned, meta_build, state_dict_round_trip
from course_lib.classroom._contract.gradients import gradcheck, gradients
from course_lib.classroom._contract.portable import deepcopy_pickle, meta_device, short_repr
from course_lib.classroom._contract.precision import autocast, default_dtype, dtypes, half_precision
from course_lib.classroom._contract.running import (
    eval_deterministic,
    input_unmodified,
    output_scale,
    output_shape_dtype,
    wrong_last_dim,
)
from course_lib.classroom._contract.subject import Subject
from course_lib.classroom._contract.transforms import checkpointed, compiled, ensemble, export

CHECKS: dict[str, Callable[[Subject], None]] = {
    "output_shape_dtype": output_shape_dtype,
    "input_unmodified": input_unmodified,
    "eval_deterministic": eval_deterministic,
    "gradients": gradients,
    "gradcheck": gradcheck,
    "checkpointed": checkpointed,
    "compiled": compiled,
    "ensemble": ensemble,
    "export": export,
    "state_dict_round_trip": state_dict_round_trip,
    "assigned": assigned,
    "meta_build": meta_build,
    "meta_device": meta_device,
    "deepcopy_pickle": deepcopy_pickle,
    "dtypes": dtypes,
    "default_dtype": default_dtype,
    "autocast": autocast,
    "half_precision": half_precision,
    "batch_independent": batch_independent,
    "causal": causal,
    "streaming": streaming,
    "permutation_equivariant": permutation_equivariant,
    "repr": short_repr,
    "output_scale": output_scale,
    "wrong_last_dim": wrong_last_dim,
}

# Seconds, not milliseconds: run where they are asked for.
SLOW = {"compiled", "export"}
# What this course asks of its layers beyond what torch asks of any.
HOUSE_RULES = {"meta_build", "repr", "output_scale", "wrong_last_dim"}
