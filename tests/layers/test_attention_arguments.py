"""Arguments, inputs and construction of the layers of layers/attention."""

import pytest

from tests.layers.arguments import argument_faults, input_faults, layers_of
from tests.layers.building import building_faults

LAYERS = layers_of("layers/attention")


@pytest.mark.parametrize("entry", LAYERS.values(), ids=LAYERS)
def test_arguments_that_do_not_fit_are_refused_by_name(entry):
    assert argument_faults(entry) == []


@pytest.mark.parametrize("entry", LAYERS.values(), ids=LAYERS)
def test_inputs_that_do_not_fit_are_refused_by_name(entry):
    assert input_faults(entry) == []


@pytest.mark.parametrize("entry", LAYERS.values(), ids=LAYERS)
def test_device_dtype_meta_and_half_precision(entry):
    assert building_faults(entry) == []
