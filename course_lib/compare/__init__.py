"""Our layers against their peers, on one clock, and the layers of a chapter side by side.

``make bench`` measures; the pages "Against the clock" and "Which layer?" show what is committed. A
chapter's cases stand in ``course_lib/bench/<part>/<chapter>.py``, in a list ``CASES``. A case makes,
for a size, one of our objects, its peers with equal weights, and inputs::

    def layer_norm(width: int) -> Contest:
        ours, peer = LayerNorm(width), nn.LayerNorm(width)
        copy_parameters(ours, peer)
        return Contest(ours, {"torch.nn.LayerNorm": peer}, (torch.randn(64, 32, width),))


    CASES = [Case("LayerNorm", layer_norm, sizes=(64, 256, 1024), axis="width")]

First the outputs and gradients are compared: a race between different functions means nothing. Then
all run in one process on one thread, in alternation, many short rounds each. The results are
committed beside the cases, bound to the code that they time by a hash; on the command line::

    python -m course_lib.bench run               # all of it, as make bench
    python -m course_lib.bench run layers/norm   # a chapter, or one case by name
    python -m course_lib.bench status            # what is fresh, stale or missing
"""

from course_lib.compare.contest import Case as Case
from course_lib.compare.contest import Contest as Contest
from course_lib.compare.contest import copy_parameters as copy_parameters
