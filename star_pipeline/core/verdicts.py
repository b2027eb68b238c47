"""Eq. 6, the pure part: what a judge's reply says, and what two replies in both orders say together."""

import re
from typing import Literal

from star_pipeline.core.records import Verdict

Choice = Literal["A", "B", "C"]
Outcome = Literal["better", "worse", "tie"]
OnReversal = Literal["tie", "abstain"]

_THINKING = re.compile(r"<(think|thinking|thought|reasoning)>.*?(</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_BRACKETED = re.compile(r"\[\s*\[?\s*([ABCabc])\s*\]?\s*\]")
_FULL_WIDTH = str.maketrans("ＡＢＣａｂｃ［］【】〔〕「」：", "ABCabc[][][][]:")
_MARKUP = re.compile(r"[*_`#>\"'“”‘’]+")
_CUE = re.compile(
    r"\[?\s*(?:so|therefore|hence|thus|my|the|our|final|overall|最终|最後|最后|我的|,|，|\s)*"
    r"(?:verdict|judge?ment|decision|conclusion|判决|裁决|结论|結論|判断)\s*\]?\s*(?:is|为|是)?\s*:?\s*",
    re.IGNORECASE,
)
_LONE = re.compile(r"(?:(?:assistant|answer|sample|option)\s+)?([ABC])", re.IGNORECASE)


def parse_verdict(reply: str) -> Choice | None:
    """The verdict that a reply states: ``[A]``, ``[B]``, ``[C]``; None where it states none.

    The last line that holds a verdict and nothing else but a cue decides ("[A]", "Final verdict: B"), for quotations come
    before and the verdict closes a reply. Without such a line, the last line with bracketed capitals does, if it names one
    letter only. Thinking blocks do not count; double, full-width and bold brackets are read like plain ones.
    """
    text = _THINKING.sub(" ", reply).translate(_FULL_WIDTH)
    lines = [line for line in (_MARKUP.sub("", raw).strip() for raw in text.splitlines()) if line]
    stated = [_stated(line, last=number == len(lines) - 1) for number, line in enumerate(lines)]
    places = [number for number, letter in enumerate(stated) if letter]
    if places:
        last = places[-1]
        # two verdicts that contradict each other with nothing between them are none
        return stated[last] if stated[last - 1 if last else last] in (None, stated[last]) else None
    for line in reversed(lines):
        found = {letter for letter in _BRACKETED.findall(line) if letter.isupper()}
        if found:
            return _choice(found.pop()) if len(found) == 1 else None
    return None


def _stated(line: str, last: bool) -> Choice | None:
    """The verdict of a line that holds one and nothing else; a letter without brackets counts after a cue or at the end."""
    rest, cues = _CUE.subn("", line, count=1)
    rest = rest.strip(" .。:!！-")
    bracketed = _BRACKETED.fullmatch(rest)
    if bracketed:
        return _choice(bracketed.group(1))
    lone = _LONE.fullmatch(rest) if cues or last else None
    return _choice(lone.group(1)) if lone else None


def _choice(letter: str) -> Choice:
    return {"A": "A", "B": "B", "C": "C"}[letter.upper()]  # type: ignore[return-value]


def outcome(choice: Choice, candidate_is: Literal["A", "B"]) -> Outcome:
    """The candidate's fate when it was shown as answer A or as answer B."""
    if choice == "C":
        return "tie"
    return "better" if choice == candidate_is else "worse"


def combine(first: Outcome, swapped: Outcome, on_reversal: OnReversal) -> tuple[Verdict, bool, float | None]:
    """(verdict, flipped, pi_llm) of both orders (Eq. 6).

    Agreement gives that verdict, 1 / 0 / 0.5. A win that is a loss in the other order is ``inconsistent`` and flipped:
    0.5 with ``tie``, None with ``abstain``. A win or a loss beside a tie is a tie.
    """
    if first == swapped:
        return first, False, {"better": 1.0, "worse": 0.0, "tie": 0.5}[first]
    if {first, swapped} == {"better", "worse"}:
        return "inconsistent", True, 0.5 if on_reversal == "tie" else None
    return "tie", False, 0.5
