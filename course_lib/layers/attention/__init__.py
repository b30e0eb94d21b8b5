"""Attention and its relatives: who makes queries, keys and values, and how they meet.

One file per idea. Letters in shapes: b batch, t time (query), s time (source), h heads, g key-value heads,
d width, e width of a head, r relations, l labels; ``*b`` stands for any leading axes.
"""

from course_lib.layers.attention.cache import KVCache as KVCache
from course_lib.layers.attention.cache import kv_cache_bytes as kv_cache_bytes
from course_lib.layers.attention.dot_product import attention_scores as attention_scores
from course_lib.layers.attention.dot_product import attention_weights as attention_weights
from course_lib.layers.attention.dot_product import causal_mask as causal_mask
from course_lib.layers.attention.dot_product import scaled_dot_product as scaled_dot_product
from course_lib.layers.attention.dot_product import scaled_dot_product_naive as scaled_dot_product_naive
from course_lib.layers.attention.hopfield import Hopfield as Hopfield
from course_lib.layers.attention.hopfield import HopfieldLookup as HopfieldLookup
from course_lib.layers.attention.hopfield import HopfieldPooling as HopfieldPooling
from course_lib.layers.attention.hopfield import hopfield_energy as hopfield_energy
from course_lib.layers.attention.hopfield import hopfield_update as hopfield_update
from course_lib.layers.attention.hopfield import hopfield_update_naive as hopfield_update_naive
from course_lib.layers.attention.label import LabelAttention as LabelAttention
from course_lib.layers.attention.lambda_layer import LambdaLayer as LambdaLayer
from course_lib.layers.attention.lambda_layer import lambda_layer_naive as lambda_layer_naive
from course_lib.layers.attention.multi_head import GroupedQueryAttention as GroupedQueryAttention
from course_lib.layers.attention.multi_head import MultiHeadAttention as MultiHeadAttention
from course_lib.layers.attention.multi_head import MultiQueryAttention as MultiQueryAttention
from course_lib.layers.attention.persistent import AllAttention as AllAttention
from course_lib.layers.attention.persistent import AllAttentionBlock as AllAttentionBlock
from course_lib.layers.attention.relational import DualAttention as DualAttention
from course_lib.layers.attention.relational import RelationalAttention as RelationalAttention
from course_lib.layers.attention.relational import SymbolicAttention as SymbolicAttention
from course_lib.layers.attention.relational import relational_attention as relational_attention
from course_lib.layers.attention.relational import relational_attention_naive as relational_attention_naive
from course_lib.layers.attention.subsampled import SubsampledAttention as SubsampledAttention
from course_lib.layers.attention.subsampled import ensemble_members as ensemble_members
from course_lib.layers.attention.subsampled import local_shuffle as local_shuffle
from course_lib.layers.attention.subsampled import self_ensemble as self_ensemble
from course_lib.layers.attention.subsampled import subset_attention as subset_attention
from course_lib.layers.attention.subsampled import window_attention as window_attention
