"""The trained claims of layers/attention: one file a paper, results beside it."""

from course_lib.experiments.layers.attention._shared import LENGTH as LENGTH
from course_lib.experiments.layers.attention._shared import WIDTH as WIDTH
from course_lib.experiments.layers.attention._shared import count as count
from course_lib.experiments.layers.attention._shared import letter_pairs as letter_pairs
from course_lib.experiments.layers.attention._shared import train_gpt as train_gpt
from course_lib.experiments.layers.attention._shared import validation_loss as validation_loss
from course_lib.experiments.layers.attention._shared import widened_block as widened_block
from course_lib.experiments.layers.attention.all_attention_persistent_memory import (
    persistent_memory as persistent_memory,
)
from course_lib.experiments.layers.attention.dual_attention_transformer import (
    ObjectClassifier as ObjectClassifier,
)
from course_lib.experiments.layers.attention.dual_attention_transformer import (
    same_or_different as same_or_different,
)
from course_lib.experiments.layers.attention.label_attention_layer import CUE_WIDTH as CUE_WIDTH
from course_lib.experiments.layers.attention.label_attention_layer import LABELS as LABELS
from course_lib.experiments.layers.attention.label_attention_layer import TOKENS as TOKENS
from course_lib.experiments.layers.attention.label_attention_layer import LabelClassifier as LabelClassifier
from course_lib.experiments.layers.attention.label_attention_layer import (
    SelfAttentionClassifier as SelfAttentionClassifier,
)
from course_lib.experiments.layers.attention.label_attention_layer import label_heads as label_heads
from course_lib.experiments.layers.attention.label_attention_layer import matched_mass as matched_mass
from course_lib.experiments.layers.attention.label_attention_layer import matched_share as matched_share
from course_lib.experiments.layers.attention.lambda_networks import PixelModel as PixelModel
from course_lib.experiments.layers.attention.lambda_networks import Placed as Placed
from course_lib.experiments.layers.attention.lambda_networks import shifted_pixels as shifted_pixels
from course_lib.experiments.layers.attention.multi_query_attention import shared_keys as shared_keys
from course_lib.experiments.layers.attention.side_by_side import FRAME as FRAME
from course_lib.experiments.layers.attention.side_by_side import GLOBAL as GLOBAL
from course_lib.experiments.layers.attention.side_by_side import SIDE_BY_SIDE as SIDE_BY_SIDE
from course_lib.experiments.layers.attention.side_by_side import side_by_side as side_by_side
from course_lib.experiments.layers.attention.stochastically_subsampled_attention import (
    DENSE_FROM as DENSE_FROM,
)
from course_lib.experiments.layers.attention.stochastically_subsampled_attention import LOCALITY as LOCALITY
from course_lib.experiments.layers.attention.stochastically_subsampled_attention import (
    PATHWAY_STEPS as PATHWAY_STEPS,
)
from course_lib.experiments.layers.attention.stochastically_subsampled_attention import RATE as RATE
from course_lib.experiments.layers.attention.stochastically_subsampled_attention import TEXT as TEXT
from course_lib.experiments.layers.attention.stochastically_subsampled_attention import (
    flat_then_falling as flat_then_falling,
)
from course_lib.experiments.layers.attention.stochastically_subsampled_attention import log_loss as log_loss
from course_lib.experiments.layers.attention.stochastically_subsampled_attention import (
    random_pathways as random_pathways,
)
from course_lib.experiments.layers.attention.stochastically_subsampled_attention import set_rate as set_rate
