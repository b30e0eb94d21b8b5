"""Token mixers: how little can stand where attention stood, and what each of them passes or blocks.

One file per idea. Letters in shapes: b batch, t tokens (or time steps of spikes), d width, c and o channels,
i rows and j columns of an image. Mixers of tokens map ``(b, t, d)`` to itself and fit
``TransformerBlock(mixer=...)``; mixers of images map ``(b, c, i, j)`` to itself and fit
:class:`MetaFormerBlock`, or a transformer block through :class:`GridMixer`.
"""

from course_lib.layers.mixing.frequency import frequency_response, reach_map, relative_log_amplitude
from course_lib.layers.mixing.inception import (
    HighFrequencyMixer,
    InceptionMixer,
    LowFrequencyMixer,
    frequency_ramp,
)
from course_lib.layers.mixing.metaformer import (
    GridMixer,
    MetaFormerBlock,
    PoolFormer,
    PoolMixer,
    RandomMixer,
    pool_minus_input_naive,
)
from course_lib.layers.mixing.mix_shift import MixShift, MixShiftBlock, shift_groups
from course_lib.layers.mixing.mlp_mixer import MixerBlock, MLPMixer, TokenMLP
from course_lib.layers.mixing.raft import RaftMLPBlock, RaftTokenMixer, raft_rearrange, raft_restore
from course_lib.layers.mixing.spiking import (
    LIFNeuron,
    MaxPatchEmbed,
    SpikingMixerBlock,
    lif_frequency_response,
    lif_naive,
)
from course_lib.layers.mixing.spiral import (
    SpiralFC,
    SpiralMixer,
    spiral_offsets,
    spiral_shift,
    spiral_shift_naive,
)

__all__ = [
    "MetaFormerBlock",
    "GridMixer",
    "PoolMixer",
    "pool_minus_input_naive",
    "RandomMixer",
    "PoolFormer",
    "TokenMLP",
    "MixerBlock",
    "MLPMixer",
    "raft_rearrange",
    "raft_restore",
    "RaftTokenMixer",
    "RaftMLPBlock",
    "shift_groups",
    "MixShift",
    "MixShiftBlock",
    "spiral_offsets",
    "spiral_shift",
    "spiral_shift_naive",
    "SpiralFC",
    "SpiralMixer",
    "HighFrequencyMixer",
    "LowFrequencyMixer",
    "InceptionMixer",
    "frequency_ramp",
    "relative_log_amplitude",
    "frequency_response",
    "reach_map",
    "LIFNeuron",
    "lif_naive",
    "lif_frequency_response",
    "SpikingMixerBlock",
    "MaxPatchEmbed",
]
