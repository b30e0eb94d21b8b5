"""Small transformers: a character model and an image classifier, around any list of blocks."""

from course_lib.models.transformers.foreign import foreign_state as foreign_state
from course_lib.models.transformers.gpt import GPT as GPT
from course_lib.models.transformers.gpt import gpt2_init_ as gpt2_init_
from course_lib.models.transformers.vision import VisionTransformer as VisionTransformer
