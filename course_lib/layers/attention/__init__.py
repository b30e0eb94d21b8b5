"""Attention and its relatives: who makes queries, keys and values, and how they meet.

One file per idea. Letters in shapes: b batch, t time (query), s time (source), h heads, g key-value heads,
d width, e width of a head, r relations, l labels; ``*b`` stands for any leading axes.
"""

from course_lib.layers.attention.dot_product import (
    attention_scores,
    attention_weights,
    causal_mask,
    scaled_dot_product,
    scaled_dot_product_naive,
)
from course_lib.layers.attention.hopfield import (
    Hopfield,
    HopfieldLookup,
    HopfieldPooling,
    hopfield_energy,
    hopfield_update,
    hopfield_update_naive,
)
from course_lib.layers.attention.label import LabelAttention
from course_lib.layers.attention.lambda_layer import LambdaLayer, lambda_layer_naive
from course_lib.layers.attention.multi_head import (
    GroupedQueryAttention,
    KVCache,
    MultiHeadAttention,
    MultiQueryAttention,
    kv_cache_bytes,
)
from course_lib.layers.attention.persistent import AllAttention, AllAttentionBlock
from course_lib.layers.attention.relational import (
    DualAttention,
    RelationalAttention,
    SymbolicAttention,
    relational_attention,
    relational_attention_naive,
)
from course_lib.layers.attention.subsampled import (
    SubsampledAttention,
    ensemble_members,
    local_shuffle,
    self_ensemble,
    subset_attention,
    window_attention,
)

__all__ = [
    "scaled_dot_product",
    "scaled_dot_product_naive",
    "attention_weights",
    "causal_mask",
    "attention_scores",
    "MultiHeadAttention",
    "MultiQueryAttention",
    "GroupedQueryAttention",
    "KVCache",
    "kv_cache_bytes",
    "hopfield_update",
    "hopfield_update_naive",
    "hopfield_energy",
    "Hopfield",
    "HopfieldPooling",
    "HopfieldLookup",
    "AllAttention",
    "AllAttentionBlock",
    "LabelAttention",
    "relational_attention",
    "relational_attention_naive",
    "RelationalAttention",
    "SymbolicAttention",
    "DualAttention",
    "lambda_layer_naive",
    "LambdaLayer",
    "local_shuffle",
    "subset_attention",
    "window_attention",
    "SubsampledAttention",
    "ensemble_members",
    "self_ensemble",
]
