"""Activation functions and gates: what the nonlinearity decides.

One file per idea. Letters in shapes: b batch, t time, d width, h hidden width, o outputs, i inputs, g basis
functions, m families; ``*b`` stands for any leading axes.
"""

from course_lib.layers.activation.activator import Activator, ActivatorBlock, ActivatorGatingUnit
from course_lib.layers.activation.bases import (
    KAN_FAMILIES,
    bspline_basis,
    chebyshev_basis,
    rbf_basis,
    uniform_knots,
    wavelet_basis,
)
from course_lib.layers.activation.bilinear import (
    BilinearMLP,
    bilinear_eigenvectors,
    bilinear_interactions,
    bilinear_tensor,
    quadratic_forms,
)
from course_lib.layers.activation.elementwise import (
    PAU,
    PDELU,
    SRS,
    ABReLU,
    ElliottSigmoid,
    LiSHT,
    Swish,
    elliott_sigmoid,
    lisht,
    pade_activation,
    pade_fit,
    pdelu,
    srs,
)
from course_lib.layers.activation.kan import KANLinear, SelectableKANLinear, prune_kan, selection_stage
from course_lib.layers.activation.sparsity import (
    TopKActivation,
    activation_sparsity,
    topk_activation,
    topk_activation_naive,
)
from course_lib.layers.activation.zoo import (
    ACTIVATION_FAMILIES,
    ACTIVATIONS,
    ActivationProperties,
    activation_properties,
)

__all__ = [
    "ACTIVATIONS",
    "ACTIVATION_FAMILIES",
    "ActivationProperties",
    "activation_properties",
    "elliott_sigmoid",
    "ElliottSigmoid",
    "lisht",
    "LiSHT",
    "Swish",
    "ABReLU",
    "pdelu",
    "PDELU",
    "srs",
    "SRS",
    "pade_activation",
    "pade_fit",
    "PAU",
    "topk_activation",
    "topk_activation_naive",
    "TopKActivation",
    "activation_sparsity",
    "BilinearMLP",
    "bilinear_tensor",
    "quadratic_forms",
    "bilinear_interactions",
    "bilinear_eigenvectors",
    "ActivatorGatingUnit",
    "ActivatorBlock",
    "Activator",
    "KAN_FAMILIES",
    "uniform_knots",
    "bspline_basis",
    "chebyshev_basis",
    "rbf_basis",
    "wavelet_basis",
    "KANLinear",
    "SelectableKANLinear",
    "selection_stage",
    "prune_kan",
]
