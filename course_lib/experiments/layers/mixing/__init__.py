"""The trained claims of layers/mixing: one file a paper, results beside it."""

from course_lib.experiments.layers.mixing._shared import DIM as DIM
from course_lib.experiments.layers.mixing._shared import GRID as GRID
from course_lib.experiments.layers.mixing._shared import TokenFrame as TokenFrame
from course_lib.experiments.layers.mixing.inception_transformer import (
    frequency_branches as frequency_branches,
)
from course_lib.experiments.layers.mixing.max_former import POOLS as POOLS
from course_lib.experiments.layers.mixing.max_former import SpikingFrame as SpikingFrame
from course_lib.experiments.layers.mixing.max_former import spiking_pools as spiking_pools
from course_lib.experiments.layers.mixing.metaformer import MIXERS as MIXERS
from course_lib.experiments.layers.mixing.metaformer import WITH_POSITIONS as WITH_POSITIONS
from course_lib.experiments.layers.mixing.metaformer import axial_offsets as axial_offsets
from course_lib.experiments.layers.mixing.metaformer import mixer_swap as mixer_swap
from course_lib.experiments.layers.mixing.mlp_mixer import inductive_bias as inductive_bias
from course_lib.experiments.layers.mixing.ms_mlp import far_product as far_product
from course_lib.experiments.layers.mixing.side_by_side import FRAME as FRAME
from course_lib.experiments.layers.mixing.side_by_side import SIDE_BY_SIDE as SIDE_BY_SIDE
from course_lib.experiments.layers.mixing.side_by_side import side_by_side as side_by_side
