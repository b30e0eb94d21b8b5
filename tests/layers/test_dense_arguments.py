"""Arguments and inputs of the layers of layers/dense."""

import pytest

from tests.layers.arguments import argument_faults, input_faults, layers_of

LAYERS = layers_of("layers/dense")


@pytest.mark.parametrize("entry", LAYERS.values(), ids=LAYERS)
def test_arguments_that_do_not_fit_are_refused_by_name(entry):
    assert argument_faults(entry) == []


@pytest.mark.parametrize("entry", LAYERS.values(), ids=LAYERS)
def test_inputs_that_do_not_fit_are_refused_by_name(entry):
    assert input_faults(entry) == []
