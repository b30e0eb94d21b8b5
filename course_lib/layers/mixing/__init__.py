"""Token mixers: how little can stand where attention stood, and what each of them passes or blocks.

One file per idea. Letters in shapes: b batch, t tokens (or time steps of spikes), d width, c and o channels,
i rows and j columns of an image. Mixers of tokens map ``(b, t, d)`` to itself and fit
``TransformerBlock(mixer=...)``; mixers of images map ``(b, c, i, j)`` to itself and fit
:class:`MetaFormerBlock`, or a transformer block through :class:`GridMixer`.
"""

from course_lib.layers.mixing.frequency import frequency_response as frequency_response
from course_lib.layers.mixing.frequency import reach_map as reach_map
from course_lib.layers.mixing.frequency import relative_log_amplitude as relative_log_amplitude
from course_lib.layers.mixing.inception import HighFrequencyMixer as HighFrequencyMixer
from course_lib.layers.mixing.inception import InceptionMixer as InceptionMixer
from course_lib.layers.mixing.inception import LowFrequencyMixer as LowFrequencyMixer
from course_lib.layers.mixing.inception import frequency_ramp as frequency_ramp
from course_lib.layers.mixing.metaformer import GridMixer as GridMixer
from course_lib.layers.mixing.metaformer import MetaFormerBlock as MetaFormerBlock
from course_lib.layers.mixing.metaformer import PoolFormer as PoolFormer
from course_lib.layers.mixing.metaformer import PoolMixer as PoolMixer
from course_lib.layers.mixing.metaformer import RandomMixer as RandomMixer
from course_lib.layers.mixing.metaformer import pool_minus_input_naive as pool_minus_input_naive
from course_lib.layers.mixing.mix_shift import MixShift as MixShift
from course_lib.layers.mixing.mix_shift import MixShiftBlock as MixShiftBlock
from course_lib.layers.mixing.mix_shift import shift_groups as shift_groups
from course_lib.layers.mixing.mlp_mixer import MixerBlock as MixerBlock
from course_lib.layers.mixing.mlp_mixer import MLPMixer as MLPMixer
from course_lib.layers.mixing.mlp_mixer import TokenMLP as TokenMLP
from course_lib.layers.mixing.raft import RaftMLPBlock as RaftMLPBlock
from course_lib.layers.mixing.raft import RaftTokenMixer as RaftTokenMixer
from course_lib.layers.mixing.raft import raft_rearrange as raft_rearrange
from course_lib.layers.mixing.raft import raft_restore as raft_restore
from course_lib.layers.mixing.spiking import LIFNeuron as LIFNeuron
from course_lib.layers.mixing.spiking import MaxPatchEmbed as MaxPatchEmbed
from course_lib.layers.mixing.spiking import PerFrame as PerFrame
from course_lib.layers.mixing.spiking import SpikingDepthwise as SpikingDepthwise
from course_lib.layers.mixing.spiking import SpikingMixerBlock as SpikingMixerBlock
from course_lib.layers.mixing.spiking import lif_frequency_response as lif_frequency_response
from course_lib.layers.mixing.spiking import lif_naive as lif_naive
from course_lib.layers.mixing.spiral import SpiralFC as SpiralFC
from course_lib.layers.mixing.spiral import SpiralMixer as SpiralMixer
from course_lib.layers.mixing.spiral import spiral_offsets as spiral_offsets
from course_lib.layers.mixing.spiral import spiral_shift as spiral_shift
from course_lib.layers.mixing.spiral import spiral_shift_naive as spiral_shift_naive
