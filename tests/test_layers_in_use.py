"""Every registered layer as an engineer meets it: wrong arguments, wrong inputs, devices, symbolic tracing.

Exceptions are named, each with its reason, and are strict: one that is not needed fails.
"""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.house.tree import ROOT
from tests.layers.arguments import argument_faults, input_faults, layers
from tests.layers.building import building_faults

LAYERS = layers()

# Trials of inputs that are right, although they do not compare as for other layers.
RIGHT_INPUTS = {
    "LIFNeuron": {"missing axis", "extra axis"},  # any number of axes behind time
}
# What ``torch.fx`` cannot trace, and why; timm's layers of the same kinds are not traced either.
UNTRACED = {
    "PyramidConv": "takes a list of images, which fx does not know",
    "ScaleEqualizingPyramidConv": "takes a list of images, which fx does not know",
    "TopKActivation": "whether anything is left out depends on the width that it sees",
}
# Built around another module, which stays where its user has built it.
WRAPPERS = {"ResidualSublayer"}
LISTS = {"PyramidConv", "ScaleEqualizingPyramidConv"}  # their inputs are lists, which the trials do not halve


@pytest.mark.parametrize("name", LAYERS)
def test_arguments_that_do_not_fit_are_refused_by_name(name):
    assert argument_faults(LAYERS[name]) == []


@pytest.mark.parametrize("name", LAYERS)
def test_inputs_that_do_not_fit_are_refused_by_name(name):
    assert input_faults(LAYERS[name], right=RIGHT_INPUTS.get(name, frozenset())) == []


@pytest.mark.parametrize("name", sorted({*LAYERS} - WRAPPERS - LISTS))
def test_device_dtype_meta_and_half_precision(name):
    assert building_faults(LAYERS[name]) == []


class HasMore(nn.Linear):
    """What only its option builds stays in single precision, on the processor."""

    def __init__(self, dim, *, hidden_dim: int | None = None, device=None, dtype=None):
        super().__init__(dim, dim, device=device, dtype=dtype)
        if hidden_dim is not None:
            self.more = nn.Linear(hidden_dim, 1, bias=False)


def test_a_part_that_only_an_option_builds_is_built_as_asked_too():
    entry = SimpleNamespace(obj=HasMore, example=lambda: (HasMore(3), torch.ones(2, 3)))
    expected = {
        f"HasMore: more.weight ignores {what}= with {{'hidden_dim': 4}}" for what in ("dtype", "device")
    }
    assert {*building_faults(entry)} == expected


TRACING = """
import inspect, torch
from course_lib.registry import entries

for name, entry in entries().items():
    if not entry.is_layer:
        continue
    torch.manual_seed(0)
    layer, *inputs = entry.example()
    layer.eval()
    options = list(inspect.signature(layer.forward).parameters.values())[len(inputs):]
    unused = {option.name: option.default for option in options if option.default is not option.empty}
    try:
        traced = torch.fx.symbolic_trace(layer, concrete_args=unused or None)
    except Exception as error:
        print(name, "is not traced:", str(error).splitlines()[0])
        continue
    first = lambda out: out[0] if isinstance(out, tuple) else out
    with torch.no_grad():
        if not torch.allclose(first(traced(*inputs)), first(layer(*inputs))):
            print(name, "gives other values")
"""


def test_symbolic_tracing_gives_the_same_values():
    """In a process of its own, since the checks of annotations, which only tests have, cannot be traced."""
    done = subprocess.run([sys.executable, "-c", TRACING], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert set(said) == set(UNTRACED), said
    assert all("is not traced" in line for line in said.values())


SHARDING = """
import sys, torch, warnings
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.utils._pytree import tree_leaves
from course_lib.registry import entries

warnings.simplefilter("ignore")  # outputs that are views, which are fine unless somebody writes into them
dist.init_process_group("gloo", init_method="file://" + sys.argv[1], rank=0, world_size=1)
mesh = init_device_mesh("cpu", (1,))
for name, entry in entries().items():
    if entry.is_layer:
        torch.manual_seed(0)
        layer, *inputs = entry.example()
        layer.eval()
        expected = tree_leaves(layer(*inputs))
        try:
            found = tree_leaves(fully_shard(layer, mesh=mesh)(*inputs))
        except Exception as error:
            print(name, "is refused:", str(error).splitlines()[0])
            continue
        if not all(map(torch.allclose, found, expected)):
            print(name, "gives other values")
dist.destroy_process_group()
"""


def test_fully_sharded_data_parallel_takes_every_layer(tmp_path):
    command = [sys.executable, "-c", SHARDING, str(tmp_path / "rendezvous")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
