"""Training without a global backward pass: no gradient crosses from one layer to another.

One file per family. All are ``nn.Module``s that hold their parts and their optimisers, and most share one
small shape: ``train_step`` does one round of local updates and returns a dict of floats, ``predict`` names
classes, ``read_out`` names the classes that each layer alone would name. Letters in shapes: b batch, d width,
k classes, l layers, t time or step, u units of a map, v visible and h hidden units.
"""

from course_lib.training.local_learning.auglocal import AugLocal as AugLocal
from course_lib.training.local_learning.auglocal import LocalBlock as LocalBlock
from course_lib.training.local_learning.auglocal import PoolAndClassify as PoolAndClassify
from course_lib.training.local_learning.auglocal import ResidualBlock1d as ResidualBlock1d
from course_lib.training.local_learning.auglocal import auxiliary_layer_index as auxiliary_layer_index
from course_lib.training.local_learning.auglocal import pyramid_depth as pyramid_depth
from course_lib.training.local_learning.boltzmann import RBM as RBM
from course_lib.training.local_learning.boltzmann import DeepBeliefNetwork as DeepBeliefNetwork
from course_lib.training.local_learning.boltzmann import (
    contrastive_divergence_step as contrastive_divergence_step,
)
from course_lib.training.local_learning.boltzmann import free_energy as free_energy
from course_lib.training.local_learning.boltzmann import log_likelihood as log_likelihood
from course_lib.training.local_learning.boltzmann import log_partition as log_partition
from course_lib.training.local_learning.forward_forward import ForwardForward as ForwardForward
from course_lib.training.local_learning.forward_forward import embed_label as embed_label
from course_lib.training.local_learning.forward_forward import ff_loss as ff_loss
from course_lib.training.local_learning.forward_forward import goodness as goodness
from course_lib.training.local_learning.noprop import NoProp as NoProp
from course_lib.training.local_learning.noprop import NoPropBlock as NoPropBlock
from course_lib.training.local_learning.noprop import noprop_coefficients as noprop_coefficients
from course_lib.training.local_learning.noprop import noprop_schedule as noprop_schedule
from course_lib.training.local_learning.som import GrowingGrid as GrowingGrid
from course_lib.training.local_learning.som import SelfOrganizingMap as SelfOrganizingMap
from course_lib.training.local_learning.som import som_update as som_update
from course_lib.training.local_learning.som_hierarchy import HierarchicalSOM as HierarchicalSOM
from course_lib.training.local_learning.som_hierarchy import delta_rule as delta_rule
from course_lib.training.local_learning.som_hierarchy import ordered_vector as ordered_vector
from course_lib.training.local_learning.som_hierarchy import padded_vector as padded_vector
