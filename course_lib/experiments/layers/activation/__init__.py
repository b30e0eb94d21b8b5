"""The trained claims of layers/activation: one file a paper."""

from course_lib.experiments.layers.activation._shared import plain_mlp as plain_mlp
from course_lib.experiments.layers.activation.activation_survey import DEPTHS as DEPTHS
from course_lib.experiments.layers.activation.activation_survey import EXPLORED as EXPLORED
from course_lib.experiments.layers.activation.activation_survey import depths as depths
from course_lib.experiments.layers.activation.activation_survey import zoo as zoo
from course_lib.experiments.layers.activation.activator_glu import patches_apart as patches_apart
from course_lib.experiments.layers.activation.activator_glu import same_symbol as same_symbol
from course_lib.experiments.layers.activation.bilinear_layers import bilinear_digits as bilinear_digits
from course_lib.experiments.layers.activation.lazy_neuron import lazy_neurons as lazy_neurons
from course_lib.experiments.layers.activation.lazy_neuron import top_k_label_noise as top_k_label_noise
from course_lib.experiments.layers.activation.s_kan import FAMILIES as FAMILIES
from course_lib.experiments.layers.activation.s_kan import TARGETS as TARGETS
from course_lib.experiments.layers.activation.s_kan import function_fitting as function_fitting
from course_lib.experiments.layers.activation.side_by_side import side_by_side as side_by_side
