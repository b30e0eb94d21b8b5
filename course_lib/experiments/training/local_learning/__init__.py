"""The trained claims of training/local_learning: one file a paper, results beside it."""

from course_lib.experiments.training.local_learning._shared import accuracy as accuracy
from course_lib.experiments.training.local_learning._shared import batches as batches
from course_lib.experiments.training.local_learning._shared import flat_digits as flat_digits
from course_lib.experiments.training.local_learning._shared import learn as learn
from course_lib.experiments.training.local_learning._shared import linear_probe as linear_probe
from course_lib.experiments.training.local_learning.action_in_mind_som import POINTS as POINTS
from course_lib.experiments.training.local_learning.action_in_mind_som import SPEEDS as SPEEDS
from course_lib.experiments.training.local_learning.action_in_mind_som import (
    action_recogniser as action_recogniser,
)
from course_lib.experiments.training.local_learning.action_in_mind_som import (
    actions_at_other_speeds as actions_at_other_speeds,
)
from course_lib.experiments.training.local_learning.action_in_mind_som import sequences as sequences
from course_lib.experiments.training.local_learning.auglocal import AUXILIARY as AUXILIARY
from course_lib.experiments.training.local_learning.auglocal import PLAN as PLAN
from course_lib.experiments.training.local_learning.auglocal import auxiliary_networks as auxiliary_networks
from course_lib.experiments.training.local_learning.collaborative_forward_forward import THETAS as THETAS
from course_lib.experiments.training.local_learning.collaborative_forward_forward import (
    layer_collaboration as layer_collaboration,
)
from course_lib.experiments.training.local_learning.noprop import DEPTHS as DEPTHS
from course_lib.experiments.training.local_learning.noprop import NETWORKS as NETWORKS
from course_lib.experiments.training.local_learning.noprop import EndToEnd as EndToEnd
from course_lib.experiments.training.local_learning.noprop import boltzmann_stack as boltzmann_stack
from course_lib.experiments.training.local_learning.noprop import denoising_blocks as denoising_blocks
from course_lib.experiments.training.local_learning.noprop import dense_layer as dense_layer
from course_lib.experiments.training.local_learning.noprop import dense_network as dense_network
from course_lib.experiments.training.local_learning.noprop import labelled_map as labelled_map
from course_lib.experiments.training.local_learning.noprop import layer_accuracies as layer_accuracies
from course_lib.experiments.training.local_learning.noprop import one_task as one_task
from course_lib.experiments.training.local_learning.rbm_dbn_tutorial import (
    cosine_with_exact_gradient as cosine_with_exact_gradient,
)
from course_lib.experiments.training.local_learning.rbm_dbn_tutorial import (
    exact_likelihood as exact_likelihood,
)
from course_lib.experiments.training.local_learning.rbm_dbn_tutorial import few_labels as few_labels
