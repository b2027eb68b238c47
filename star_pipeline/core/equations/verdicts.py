"""Eq. 6, the pure part: what a judge's reply says, and what two replies in both orders say together."""

import re
from collections.abc import Sequence
from typing import Literal

from star_pipeline.core.equations.reply_cleaning import spoken
from star_pipeline.core.records import JudgeOpinion, Outcome, Verdict

Choice = Literal["A", "B", "C"]
OnReversal = Literal["tie", "abstain"]
Ties = Literal["half", "lose"]

_BLOCK = re.compile(r"<(?P<close>/?)(?P<tag>think|thinking|thought|reasoning)>", re.IGNORECASE)
_BRACKETED = re.compile(r"\[ ?\[? ?([ABCabc]) ?\]? ?\]")
_FULL_WIDTH = str.maketrans("ＡＢＣａｂｃ［］【】〔〕「」：", "ABCabc[][][][]:")
_MARKUP = re.compile(r"[*_`#>\"'“”‘’]+")
_CUE = re.compile(
    r"(?:verdict|judge?ment|decision|conclusion|判决|裁决|结论|結論|判断) ?\]? ?(?:is|为|是)? ?:? ?", re.IGNORECASE
)
_LEAD = ("so", "therefore", "hence", "thus", "my", "the", "our", "final", "overall", "最终", "最後", "最后", "我的")
_BEFORE_CUE = re.compile(rf"(?:{'|'.join(word[::-1] for word in _LEAD)}|[,， ]+)*\[?", re.IGNORECASE)
"""What may stand before a cue, read backwards from it."""
_LONE = re.compile(r"(?:(?:assistant|answer|sample|option) )?([ABC])", re.IGNORECASE)
_EDGE = " .。:!！-"
_LONGEST, _LINES = 1000, 10_000
"""Characters of a line that is a verdict and nothing else, and lines that are looked at: a judge says it shortly, and last."""


def parse_verdict(reply: str) -> Choice | None:
    """The verdict that a reply states: ``[A]``, ``[B]``, ``[C]``; None where it states none.

    The last line that holds a verdict and nothing else but a cue decides ("[A]", "Final verdict: B"), for quotations come
    before and the verdict closes a reply. Without such a line, the last line with bracketed capitals does, if it names one
    letter only. Reasoning does not count; double, full-width and bold brackets are read like plain ones. Linear in the reply.
    """
    text = _without_blocks(spoken(reply).text or "").translate(_FULL_WIDTH)
    # every run of blanks is one blank from here on
    lines = [line for raw in _MARKUP.sub("", text).splitlines() if (line := " ".join(raw.split()))][-_LINES:]
    for number in reversed(range(len(lines))):
        letter = _stated(lines[number], last=number == len(lines) - 1)
        if letter:
            # two verdicts that contradict each other with nothing between them are none
            before = _stated(lines[number - 1], last=False) if number else None
            return letter if before in (None, letter) else None
    for line in reversed(lines):
        found = {letter for letter in _BRACKETED.findall(line) if letter.isupper()}
        if found:
            return _choice(found.pop()) if len(found) == 1 else None
    return None


def _without_blocks(text: str) -> str:
    """The text without what stands between a tag of reasoning, wherever it is, and the tag that closes it."""
    kept, place, opened = [], 0, None
    for found in _BLOCK.finditer(text):
        if opened is None and not found["close"]:
            opened = found
        elif opened is not None and found["close"] and found["tag"].lower() == opened["tag"].lower():
            kept += [text[place : opened.start()], " "]
            place, opened = found.end(), None
    return "".join([*kept, text[place:]])


def _stated(line: str, last: bool) -> Choice | None:
    """The verdict of a line that holds one and nothing else; a letter without brackets counts after a cue or at the end."""
    line = line.strip(_EDGE)
    if len(line) > _LONGEST:
        return None
    before, after = "", line
    cue = _CUE.search(line)
    if cue:
        ahead = line[: cue.start()]
        lead = _BEFORE_CUE.match(ahead[::-1])
        before, after = ahead[: len(ahead) - lead.end()] if lead else ahead, line[cue.end() :]
    bracketed = _BRACKETED.fullmatch(f"{before}{after}".strip(_EDGE))
    if bracketed:
        return _choice(bracketed.group(1))
    # a letter ahead of the cue is an article: "A conclusion:"
    lone = _LONE.fullmatch(after.strip(_EDGE)) if (cue or last) and not before.strip(_EDGE) else None
    return _choice(lone.group(1)) if lone else None


CHOICES: dict[str, Choice] = {"A": "A", "B": "B", "C": "C"}


def _choice(letter: str) -> Choice:
    return CHOICES[letter.upper()]


PI_LLM: dict[Verdict, float] = {"better": 1.0, "worse": 0.0, "tie": 0.5}


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
        return first, False, PI_LLM[first]
    if {first, swapped} == {"better", "worse"}:
        return "inconsistent", True, 0.5 if on_reversal == "tie" else None
    return "tie", False, 0.5


def majority(opinions: Sequence[JudgeOpinion], on_reversal: OnReversal) -> tuple[Verdict, bool, float | None]:
    """(verdict, flipped, pi_llm) of several judges: what more than half of those heard say, else a tie.

    One that could not be asked makes the whole ``failed``; where no more than half state a verdict it is ``unparsed``. A judge that
    reversed itself counts as a tie, or with ``abstain`` not at all; ``inconsistent`` where all did. Flipped: more than half were.
    """
    if any(opinion.verdict == "failed" for opinion in opinions):
        return "failed", False, None
    heard = [opinion for opinion in opinions if opinion.verdict != "unparsed"]
    if 2 * len(heard) <= len(opinions):
        return "unparsed", False, None
    flipped = 2 * sum(opinion.flipped for opinion in heard) > len(heard)
    votes = [opinion.verdict for opinion in heard]
    if all(vote == "inconsistent" for vote in votes):
        return "inconsistent", flipped, 0.5 if on_reversal == "tie" else None
    if on_reversal == "abstain":
        votes = [vote for vote in votes if vote != "inconsistent"]
    verdict = plurality(votes)
    return verdict, flipped, PI_LLM[verdict]


def plurality(votes: Sequence[str | None]) -> Outcome:
    """better or worse where more than half of the votes say so, else a tie."""
    if 2 * votes.count("better") > len(votes):
        return "better"
    return "worse" if 2 * votes.count("worse") > len(votes) else "tie"
