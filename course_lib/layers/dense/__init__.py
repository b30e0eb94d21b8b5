"""Dense layers and what a layer is: index maps, types of shapes and of meanings, the last layer, deep MLPs.

One file per paper. Letters in shapes: b batch, d width, e edges of a span, k classes, n size of one axis;
``*b`` stands for any leading axes. What this chapter adds to training (folds, stopping points) is in
:mod:`course_lib.training.validation`.
"""

from course_lib.layers.dense.hinge import SquaredHingeLoss as SquaredHingeLoss
from course_lib.layers.dense.hinge import squared_hinge_loss as squared_hinge_loss
from course_lib.layers.dense.mlp import InvertedBottleneckBlock as InvertedBottleneckBlock
from course_lib.layers.dense.mlp import InvertedBottleneckMLP as InvertedBottleneckMLP
from course_lib.layers.dense.neural_types import AxisType as AxisType
from course_lib.layers.dense.neural_types import ElementType as ElementType
from course_lib.layers.dense.neural_types import NeuralType as NeuralType
from course_lib.layers.dense.neural_types import NeuralTypeComparison as NeuralTypeComparison
from course_lib.layers.dense.neural_types import NeuralTypeError as NeuralTypeError
from course_lib.layers.dense.neural_types import typecheck as typecheck
from course_lib.layers.dense.neural_types import typecheck_disabled as typecheck_disabled
from course_lib.layers.dense.signatures import IOSignature as IOSignature
from course_lib.layers.dense.signatures import SizeMap as SizeMap
from course_lib.layers.dense.signatures import forward_compatible as forward_compatible
from course_lib.layers.dense.signatures import generate_type_equivalent as generate_type_equivalent
from course_lib.layers.dense.signatures import io_signature as io_signature
from course_lib.layers.dense.signatures import type_equivalent as type_equivalent
from course_lib.layers.dense.spans import ParametricSpan as ParametricSpan
from course_lib.layers.dense.spans import SpanLegs as SpanLegs
from course_lib.layers.dense.spans import bias_span as bias_span
from course_lib.layers.dense.spans import conv1d_span as conv1d_span
from course_lib.layers.dense.spans import conv2d_span as conv2d_span
from course_lib.layers.dense.spans import dense_span as dense_span
from course_lib.layers.dense.spans import pooling_span as pooling_span
from course_lib.layers.dense.spans import span_apply as span_apply
from course_lib.layers.dense.spans import span_matrix as span_matrix
