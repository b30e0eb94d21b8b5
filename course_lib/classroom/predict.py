"""Questions to answer before a result is shown."""

import html
import zlib
from collections.abc import Sequence

from course_lib.tables import Displayed

__all__ = ["predict"]

_SHEET = """<style>
.course-predict{border-left:.3rem solid #0072B2;padding:.4rem 1rem;margin:1rem 0}
.course-predict p{margin:.2rem 0}
.course-predict details{margin:.15rem 0}
.course-predict summary{cursor:pointer}
.course-predict details p{padding-left:1.2rem}
</style>"""


def predict(question: str, choices: Sequence[str], *, right: int, answer: str) -> Displayed:
    """A box that asks for a prediction; a click on any choice opens the answer, without a script.

    The last line of a cell shows it. Put it before the cell whose result gives the answer away.

    Args:
        question: one question.
        choices: two to four answers, one of them right.
        right: position of the right one, from 0.
        answer: one sentence with the number that was measured.

    Raises:
        ValueError: for fewer than two or more than four choices, or a position outside them.

    >>> predict("One or two?", ["one", "two"], right=1, answer="It is two: 1 + 1 = 2.")
    Predict first: One or two?
      a) one
      b) two
    Answer: b) It is two: 1 + 1 = 2.
    """
    if not 2 <= len(choices) <= 4:
        raise ValueError(f"predict() takes two to four choices, got {len(choices)}: {list(choices)}")
    if not 0 <= right < len(choices):
        raise ValueError(f"right={right} is no position among {len(choices)} choices")
    group = f"predict-{zlib.crc32(question.encode()):08x}"
    told = f"✗ It is “{html.escape(choices[right])}”."
    rows = "".join(
        f"<details name={group}{' class=right' * (i == right)}><summary>{html.escape(choice)}</summary>"
        f"<p>{'✓' if i == right else told} {html.escape(answer)}</p></details>"
        for i, choice in enumerate(choices)
    )
    box = (
        f'{_SHEET}<div class="course-predict"><p><strong>Predict first.</strong> {html.escape(question)}</p>'
        f"{rows}</div>"
    )
    letters = [f"  {letter}) {choice}" for letter, choice in zip("abcd", choices, strict=False)]
    plain = [f"Predict first: {question}", *letters, f"Answer: {'abcd'[right]}) {answer}"]
    return Displayed(box, "\n".join(plain))
