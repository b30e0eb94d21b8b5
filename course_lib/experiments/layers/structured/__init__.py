"""The trained claims of layers/structured: one file a paper, results beside it."""

from course_lib.experiments.layers.structured._shared import default_start_ as default_start_
from course_lib.experiments.layers.structured.low_rank_training import STARTS as STARTS
from course_lib.experiments.layers.structured.low_rank_training import low_rank_starts as low_rank_starts
from course_lib.experiments.layers.structured.low_rank_training import replace_linear_ as replace_linear_
from course_lib.experiments.layers.structured.maestro import cut_errors as cut_errors
from course_lib.experiments.layers.structured.maestro import factorise as factorise
from course_lib.experiments.layers.structured.maestro import largest_angle as largest_angle
from course_lib.experiments.layers.structured.maestro import ordered_columns as ordered_columns
from course_lib.experiments.layers.structured.memoryformer import memory_gpt as memory_gpt
from course_lib.experiments.layers.structured.memoryformer import used_rows as used_rows
from course_lib.experiments.layers.structured.mixed_td import compressed_cnn as compressed_cnn
from course_lib.experiments.layers.structured.mixed_td import small_cnn as small_cnn
from course_lib.experiments.layers.structured.mixed_td import taken_apart as taken_apart
from course_lib.experiments.layers.structured.mixed_td import with_replaced as with_replaced
from course_lib.experiments.layers.structured.mixer_as_sparse_mlp import FrozenEnds as FrozenEnds
from course_lib.experiments.layers.structured.mixer_as_sparse_mlp import mixer_width as mixer_width
from course_lib.experiments.layers.structured.side_by_side import FRAME as FRAME
from course_lib.experiments.layers.structured.side_by_side import SIDE_BY_SIDE as SIDE_BY_SIDE
from course_lib.experiments.layers.structured.side_by_side import side_by_side as side_by_side
from course_lib.experiments.layers.structured.sparse_ift import dense_gradients as dense_gradients
from course_lib.experiments.layers.structured.sparse_ift import parallel_mlp as parallel_mlp
from course_lib.experiments.layers.structured.sparse_ift import plain_mlp as plain_mlp
from course_lib.experiments.layers.structured.sparse_ift import rigl as rigl
from course_lib.experiments.layers.structured.sparse_ift import sparse_layers as sparse_layers
from course_lib.experiments.layers.structured.sparse_ift import wide_mlp as wide_mlp
from course_lib.experiments.layers.structured.sparse_ift import wider_and_sparser as wider_and_sparser
