"""Activation functions and gates: what the nonlinearity decides.

One file per idea. Letters in shapes: b batch, t time, d width, h hidden width, o outputs, i inputs, g basis
functions, m families; ``*b`` stands for any leading axes.
"""

from course_lib.layers.activation.activator import Activator as Activator
from course_lib.layers.activation.activator import ActivatorBlock as ActivatorBlock
from course_lib.layers.activation.activator import ActivatorGatingUnit as ActivatorGatingUnit
from course_lib.layers.activation.bases import KAN_FAMILIES as KAN_FAMILIES
from course_lib.layers.activation.bases import bspline_basis as bspline_basis
from course_lib.layers.activation.bases import chebyshev_basis as chebyshev_basis
from course_lib.layers.activation.bases import rbf_basis as rbf_basis
from course_lib.layers.activation.bases import uniform_knots as uniform_knots
from course_lib.layers.activation.bases import wavelet_basis as wavelet_basis
from course_lib.layers.activation.bilinear import BilinearMLP as BilinearMLP
from course_lib.layers.activation.bilinear import bilinear_eigenvectors as bilinear_eigenvectors
from course_lib.layers.activation.bilinear import bilinear_interactions as bilinear_interactions
from course_lib.layers.activation.bilinear import bilinear_tensor as bilinear_tensor
from course_lib.layers.activation.bilinear import quadratic_forms as quadratic_forms
from course_lib.layers.activation.elementwise import PAU as PAU
from course_lib.layers.activation.elementwise import PDELU as PDELU
from course_lib.layers.activation.elementwise import SRS as SRS
from course_lib.layers.activation.elementwise import ABReLU as ABReLU
from course_lib.layers.activation.elementwise import ElliottSigmoid as ElliottSigmoid
from course_lib.layers.activation.elementwise import LiSHT as LiSHT
from course_lib.layers.activation.elementwise import Swish as Swish
from course_lib.layers.activation.elementwise import elliott_sigmoid as elliott_sigmoid
from course_lib.layers.activation.elementwise import lisht as lisht
from course_lib.layers.activation.elementwise import pade_activation as pade_activation
from course_lib.layers.activation.elementwise import pade_fit as pade_fit
from course_lib.layers.activation.elementwise import pdelu as pdelu
from course_lib.layers.activation.elementwise import srs as srs
from course_lib.layers.activation.kan import KANLinear as KANLinear
from course_lib.layers.activation.kan import SelectableKANLinear as SelectableKANLinear
from course_lib.layers.activation.kan import prune_kan as prune_kan
from course_lib.layers.activation.kan import selection_stage as selection_stage
from course_lib.layers.activation.sparsity import TopKActivation as TopKActivation
from course_lib.layers.activation.sparsity import activation_sparsity as activation_sparsity
from course_lib.layers.activation.sparsity import topk_activation as topk_activation
from course_lib.layers.activation.sparsity import topk_activation_naive as topk_activation_naive
from course_lib.layers.activation.zoo import ACTIVATION_FAMILIES as ACTIVATION_FAMILIES
from course_lib.layers.activation.zoo import ACTIVATIONS as ACTIVATIONS
from course_lib.layers.activation.zoo import ActivationProperties as ActivationProperties
from course_lib.layers.activation.zoo import activation_properties as activation_properties
