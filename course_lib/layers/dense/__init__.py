"""Dense layers and what a layer is: index maps, types of shapes and of meanings, the last layer, deep MLPs.

One file per paper. Letters in shapes: b batch, d width, e edges of a span, k classes, n size of one axis;
``*b`` stands for any leading axes. What this chapter adds to training (folds, stopping points) is in
:mod:`course_lib.training.validation`.
"""

from course_lib.layers.dense.hinge import SquaredHingeLoss, squared_hinge_loss
from course_lib.layers.dense.mlp import InvertedBottleneckBlock, InvertedBottleneckMLP
from course_lib.layers.dense.neural_types import (
    AxisType,
    ElementType,
    NeuralType,
    NeuralTypeComparison,
    NeuralTypeError,
    typecheck,
    typecheck_disabled,
)
from course_lib.layers.dense.signatures import (
    IOSignature,
    SizeMap,
    forward_compatible,
    generate_type_equivalent,
    io_signature,
    type_equivalent,
)
from course_lib.layers.dense.spans import (
    ParametricSpan,
    SpanLegs,
    bias_span,
    conv1d_span,
    conv2d_span,
    dense_span,
    pooling_span,
    span_apply,
    span_matrix,
)

__all__ = [
    "ParametricSpan",
    "SpanLegs",
    "span_apply",
    "span_matrix",
    "dense_span",
    "conv1d_span",
    "conv2d_span",
    "pooling_span",
    "bias_span",
    "IOSignature",
    "SizeMap",
    "io_signature",
    "type_equivalent",
    "forward_compatible",
    "generate_type_equivalent",
    "NeuralType",
    "AxisType",
    "ElementType",
    "NeuralTypeComparison",
    "NeuralTypeError",
    "typecheck",
    "typecheck_disabled",
    "squared_hinge_loss",
    "SquaredHingeLoss",
    "InvertedBottleneckBlock",
    "InvertedBottleneckMLP",
]
