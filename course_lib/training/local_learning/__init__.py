"""Training without a global backward pass: no gradient crosses from one layer to another.

One file per family. All are ``nn.Module``s that hold their parts and their optimisers, and most share one
small shape: ``train_step`` does one round of local updates and returns a dict of floats, ``predict`` names
classes, ``read_out`` names the classes that each layer alone would name. Letters in shapes: b batch, d width,
k classes, l layers, t time or step, u units of a map, v visible and h hidden units.
"""

from course_lib.training.local_learning.auglocal import (
    AugLocal,
    LocalBlock,
    PoolAndClassify,
    ResidualBlock1d,
    auxiliary_layer_index,
    pyramid_depth,
)
from course_lib.training.local_learning.boltzmann import (
    RBM,
    DeepBeliefNetwork,
    contrastive_divergence_step,
    free_energy,
    log_likelihood,
    log_partition,
)
from course_lib.training.local_learning.forward_forward import ForwardForward, embed_label, ff_loss, goodness
from course_lib.training.local_learning.noprop import (
    NoProp,
    NoPropBlock,
    noprop_coefficients,
    noprop_schedule,
)
from course_lib.training.local_learning.som import GrowingGrid, SelfOrganizingMap, som_update
from course_lib.training.local_learning.som_hierarchy import (
    HierarchicalSOM,
    delta_rule,
    ordered_vector,
    padded_vector,
)

__all__ = [
    "NoProp",
    "NoPropBlock",
    "noprop_schedule",
    "noprop_coefficients",
    "ForwardForward",
    "goodness",
    "ff_loss",
    "embed_label",
    "AugLocal",
    "LocalBlock",
    "PoolAndClassify",
    "ResidualBlock1d",
    "auxiliary_layer_index",
    "pyramid_depth",
    "SelfOrganizingMap",
    "GrowingGrid",
    "HierarchicalSOM",
    "som_update",
    "ordered_vector",
    "padded_vector",
    "delta_rule",
    "RBM",
    "DeepBeliefNetwork",
    "contrastive_divergence_step",
    "free_energy",
    "log_partition",
    "log_likelihood",
]
