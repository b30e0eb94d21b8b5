"""What learners write gets the verdict that it deserves: nothing wrong passes, nothing right is refused."""

import importlib
from pathlib import Path

import pytest

from course_lib.classroom.answers.exercises import of_chapter

HERE = Path(__file__).parent
CHAPTERS = sorted(p.relative_to(HERE).with_suffix("").as_posix() for p in HERE.glob("*/*.py"))


def corpus_of(chapter):
    return importlib.import_module(f"tests.exercises.{chapter.replace('/', '.')}").corpus


def exercises():
    for chapter in CHAPTERS:
        for name in of_chapter(chapter).exercises:
            yield pytest.param(chapter, name, id=f"{chapter}-{name}")


@pytest.mark.parametrize(("chapter", "name"), list(exercises()))
class TestExercise:
    def test_it_is_made_well(self, chapter, name):
        assert of_chapter(chapter)[name].verify() is None

    def test_right_answers_pass(self, chapter, name):
        exercise = of_chapter(chapter)[name]
        answers = [answer for of, answer in corpus_of(chapter).right_answers if of == name]
        refused = {
            answer.__name__: verdict.text
            for answer in answers
            if not (verdict := exercise.judge(answer)).right
        }
        assert not refused
        assert len(answers) >= (2 if exercise.accepts else 5)

    def test_wrong_answers_get_their_diagnosis(self, chapter, name):
        exercise = of_chapter(chapter)[name]
        answers = [(a, said) for of, a, said in corpus_of(chapter).wrong_answers if of == name]
        faults = []
        for answer, said in answers:
            verdict = exercise.judge(answer)
            got = {verdict.kind, *(diagnosis.name for diagnosis in verdict.diagnoses)}
            if verdict.right or not got & set(said):
                faults.append(f"{answer.__name__}: {sorted(got)} instead of {said}")
        assert not faults
        assert len(answers) >= (4 if exercise.accepts else 10)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_answer_belongs_to_an_exercise(chapter):
    corpus, known = corpus_of(chapter), of_chapter(chapter).exercises
    named = [name for name, *_ in [*corpus.right_answers, *corpus.wrong_answers]]
    assert set(named) == set(known)
