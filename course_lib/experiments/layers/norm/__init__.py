"""The trained claims of layers/norm, a file a paper. Each function trains for one seed."""

from course_lib.experiments.layers.norm._shared import InPieces as InPieces
from course_lib.experiments.layers.norm._shared import linear_digits as linear_digits
from course_lib.experiments.layers.norm._shared import torch_init_ as torch_init_
from course_lib.experiments.layers.norm.evonorm import IMAGE_NORMS as IMAGE_NORMS
from course_lib.experiments.layers.norm.evonorm import ResidualCNN as ResidualCNN
from course_lib.experiments.layers.norm.evonorm import image_norms as image_norms
from course_lib.experiments.layers.norm.evonorm import random_search as random_search
from course_lib.experiments.layers.norm.layer_normalization import RATES as RATES
from course_lib.experiments.layers.norm.layer_normalization import digits_mlp as digits_mlp
from course_lib.experiments.layers.norm.layer_normalization import recurrent_steps as recurrent_steps
from course_lib.experiments.layers.norm.layer_normalization import tiny_batches as tiny_batches
from course_lib.experiments.layers.norm.layernorm_expressivity import GEOMETRY as GEOMETRY
from course_lib.experiments.layers.norm.layernorm_expressivity import MAJORITY_NORMS as MAJORITY_NORMS
from course_lib.experiments.layers.norm.layernorm_expressivity import MajorityModel as MajorityModel
from course_lib.experiments.layers.norm.layernorm_expressivity import majority as majority
from course_lib.experiments.layers.norm.peri_ln import grown as grown
from course_lib.experiments.layers.norm.peri_ln import placements_trained as placements_trained
from course_lib.experiments.layers.norm.relu_revival import LearnedLeakyReLU as LearnedLeakyReLU
from course_lib.experiments.layers.norm.relu_revival import norm_free as norm_free
from course_lib.experiments.layers.norm.side_by_side import FRAME as FRAME
from course_lib.experiments.layers.norm.side_by_side import SIDE_BY_SIDE as SIDE_BY_SIDE
from course_lib.experiments.layers.norm.side_by_side import side_by_side as side_by_side
from course_lib.experiments.layers.norm.slab_prepbn import TOKEN_NORMS as TOKEN_NORMS
from course_lib.experiments.layers.norm.slab_prepbn import advance as advance
from course_lib.experiments.layers.norm.slab_prepbn import digits_vit as digits_vit
from course_lib.experiments.layers.norm.slab_prepbn import token_norms as token_norms
