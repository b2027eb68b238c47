"""Which training texts overlap with what the tuned models are asked: a question that was trained on measures memory."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from star_pipeline.core.study.records import Question

LENGTH = 13
"""Words in a row that two texts do not share by chance: what GPT-3 and the leaderboards look at."""
_UNSPACED = "぀-ヿ㐀-䶿一-鿿가-힯"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")


def words(text: str) -> list[str]:
    """Lower-case runs of letters and digits; a character of a script without blanks is a word by itself."""
    return _WORD.findall(text.casefold())


@dataclass(frozen=True, slots=True)
class Overlap:
    """``shared``: the words in common; ``where``: whose they are, in words."""

    question: str
    where: str
    shared: str


class Overlaps:
    """The questions' turns and reference answers, to look texts up in.

    A text overlaps that has ``length`` words in a row in common with a turn or a reference. A turn of fewer words overlaps with what a
    user says in the very same words, and with nothing else; a reference of fewer is too short to tell.
    """

    def __init__(self, questions: Iterable[Question], length: int = LENGTH) -> None:
        self._length = length
        self._runs: dict[tuple[str, ...], tuple[str, str]] = {}
        self._short: dict[tuple[str, ...], tuple[str, str]] = {}
        for question in questions:
            named = f"question {question.name} of {question.source}"
            for turn in question.turns:
                self._take(words(turn), question.question, named, exact=True)
            for reference in question.references:
                self._take(words(reference or ""), question.question, f"the reference answer to {named}", exact=False)
        self._known = {word for run in self._runs for word in run}

    def _take(self, said: list[str], question: str, named: str, exact: bool) -> None:
        if len(said) < self._length:
            if said and exact:
                self._short.setdefault(tuple(said), (question, named))
            return
        for place in range(len(said) - self._length + 1):
            self._runs.setdefault(tuple(said[place : place + self._length]), (question, named))

    def first(self, asked: Iterable[str], answers: Iterable[str]) -> Overlap | None:
        """The first overlap of what a user says (``asked``) and of other texts; None where there is none."""
        for texts, exact in ((asked, True), (answers, False)):
            for text in texts:
                if (self._runs or exact) and (found := self._in(words(text), exact)):
                    return found
        return None

    def _in(self, said: list[str], exact: bool) -> Overlap | None:
        if exact and (same := self._short.get(tuple(said))):
            return Overlap(*same, " ".join(said))
        run = 0
        for end, word in enumerate(said, start=1):
            run = run + 1 if word in self._known else 0
            if run >= self._length:
                shared = tuple(said[end - self._length : end])
                if found := self._runs.get(shared):
                    return Overlap(*found, " ".join(shared))
        return None
