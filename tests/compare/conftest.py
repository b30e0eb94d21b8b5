"""A clock that no machine can disturb."""

import pytest


class Clock:
    """Tells the seconds that were spent on it."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def spending(self, seconds, function=lambda *inputs: None):
        """The function, which takes so many seconds."""

        def spend(*inputs):
            self.now += seconds
            return function(*inputs)

        return spend


@pytest.fixture
def clock():
    return Clock()
