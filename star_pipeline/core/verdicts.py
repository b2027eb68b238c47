"""Eq. 6, the pure part: what a judge's reply says, and what two replies in both orders say together."""

import re
from typing import Literal

from star_pipeline.core.records import Verdict

Choice = Literal["A", "B", "C"]
Outcome = Literal["better", "worse", "tie"]
OnReversal = Literal["tie", "abstain"]

_THINKING = re.compile(r"<(think|thinking|thought|reasoning)>.*?(</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_BRACKETED = re.compile(r"\[\s*\[?\s*([ABC])\s*\]?\s*\]", re.IGNORECASE)
_FULL_WIDTH = str.maketrans("ＡＢＣａｂｃ［］【】〔〕「」", "ABCabc[][][][]")
_MARKUP = re.compile(r"[*_`#>\"'“”‘’]+")
_CUE = re.compile(r"(?:verdict|judge?ment|conclusion|判决|裁决|结论|結論)\s*(?:is)?\s*[:：]?\s*", re.IGNORECASE)
_BARE = re.compile(r"(?:assistant|answer|sample|option)?\s*([ABC])\s*[.。!]?", re.IGNORECASE)


def parse_verdict(reply: str) -> Choice | None:
    """The verdict that a reply states: ``[A]``, ``[B]``, ``[C]``; None where it states none.

    Read from its end: a line that holds one bracketed letter and nothing else but a cue ("Final verdict: [A]"), else the
    last line with bracketed letters, if they agree (quotations come before, the verdict closes a reply), else a last line
    that is a bare letter. Thinking blocks do not count. Double, full-width and bold brackets and lower case are read alike.
    """
    text = _THINKING.sub(" ", reply).translate(_FULL_WIDTH)
    lines = [line for line in (_MARKUP.sub("", raw).strip() for raw in text.splitlines()) if line]
    for line in reversed(lines):
        found = _BRACKETED.findall(line)
        if len(found) == 1 and not _CUE.sub("", _BRACKETED.sub("", line)).strip(" .。:：!-"):
            return _choice(found[0])
    for line in reversed(lines):
        found = [letter.upper() for letter in _BRACKETED.findall(line)]
        if found:
            return _choice(found[0]) if len(set(found)) == 1 else None
    bare = _BARE.fullmatch(_CUE.sub("", lines[-1]).strip()) if lines else None
    return _choice(bare.group(1)) if bare else None


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
