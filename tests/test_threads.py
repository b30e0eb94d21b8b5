"""One thread inside, what it was before outside, also after an error."""

import pytest
import torch

from course_lib.threads import one_thread


def fails_inside():
    with one_thread():
        raise ArithmeticError(f"{torch.get_num_threads()} thread")


def test_one_thread_inside_and_as_before_outside_also_after_an_error():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ArithmeticError, match="1 thread"):
            fails_inside()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
