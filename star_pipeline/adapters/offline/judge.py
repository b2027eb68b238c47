"""The offline judge: reads a comparison prompt, scores both sides by a formula, and replies as a judge LLM would.

Like real judges it leans on position where two answers are close, and sometimes forgets to state its verdict; both are
functions of the request, so that the pipeline's order reversals and re-asking have something to work on.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from star_pipeline.adapters.offline.knowledge import Knowledge
from star_pipeline.adapters.offline.text import Draw, blocks, content_words, excerpt, sentences, words

TIE_MARGIN = 0.22
"""Scores (0 to 10) closer than this are equally good."""
NEAR_MARGIN = 0.75
"""Scores closer than this may be decided by position instead."""
LEANS_ON_POSITION = 0.3
"""Share of near comparisons in which the first position wins."""
FORGETS_VERDICT = 0.01
"""Share of calls whose reply lacks the verdict line."""

_ONE_LETTER, _AS_JSON = "Reply with exactly one letter, A or B.", "Reply with the JSON object:"
"""What the shipped templates end with where they ask for another form."""

_ENOUGH_COVERAGE = 0.3
_ENOUGH_WORDS = 70
# An answer that talks about itself says nothing more by it.
_ABOUT_THE_ANSWER = frozenset(
    ["asked", "asking", "check", "left", "mind", "open", "order", "read", "rests", "settled", "time", "turns"]
)
_SECTIONS = {
    "question": (("[User Question]\n", "\n[Start of Assistant A's Answer]"),),
    **{
        f"question_{side.lower()}": (
            (f"[Start of Sample {side}'s Instruction]\n", f"[End of Sample {side}'s Instruction]"),
        )
        for side in "AB"
    },
    **{
        f"answer_{side.lower()}": tuple(
            (f"[Start of {who} {side}'s Answer]\n", f"[End of {who} {side}'s Answer]")
            for who in ("Assistant", "Sample")
        )
        for side in "AB"
    },
}
_FILLER = re.compile(
    r"""\b(?:to\ be\ honest|goes\ without\ saying|needless\ to\ say|at\ the\ end\ of\ the\ day
    |generally\ speaking|in\ many\ ways|important\ to\ note|interesting\ topic|various\ (?:aspects|factors)
    |hard\ to\ say|it\ (?:really\ )?depends|and\ so\ on|it\ is\ what\ it\ is|kind\ of|sort\ of|more\ or\ less
    |something\ like|as\ far\ as\ i\ know|i\ guess|in\ conclusion|all\ in\ all
    |a\ lot\ (?:more\ that\ could|of\ people|of\ feelings)|in\ a\ wider\ sense|as\ was\ said\ above|opinions\ differ
    |in\ a\ way|along\ those\ lines|as\ you\ like|in\ whatever\ way)\b""",
    re.IGNORECASE | re.VERBOSE,
)
_LIST_ITEM = re.compile(r"^[ \t]*(?:[-*•]|\d+[.)])\s", re.MULTILINE)


@dataclass(frozen=True)
class Comparison:
    """What a judge prompt holds; the two questions are the same unless whole samples are compared."""

    question_a: str
    answer_a: str
    question_b: str
    answer_b: str

    @property
    def whole_samples(self) -> bool:
        """Whether the instructions differ, so that they count too."""
        return self.question_a != self.question_b


@dataclass(frozen=True)
class Quality:
    """An answer's score, 0 to 10, with what the judge's remarks are about."""

    score: float
    coverage: float
    n_words: int
    n_filler: int


def read_comparison(prompt: str) -> Comparison | None:
    """The parts of a judge prompt in the shipped templates' form; None where an answer cannot be found."""
    found = {name: text for name, marks in _SECTIONS.items() if (text := _between(prompt, marks)) is not None}
    if "answer_a" not in found or "answer_b" not in found:
        return None
    question = found.get("question", "")
    return Comparison(
        found.get("question_a", question), found["answer_a"], found.get("question_b", question), found["answer_b"]
    )


def _between(prompt: str, marks: Sequence[tuple[str, str]]) -> str | None:
    """What stands between the first of the marks that are there."""
    for begins, ends in marks:
        begin = prompt.find(begins)
        end = prompt.find(ends, begin + len(begins)) if begin >= 0 else -1
        if end >= 0:
            return prompt[begin + len(begins) : end].rstrip("\n")
    return None


def quality(question: str, answer: str, knowledge: Knowledge) -> Quality:
    """Coverage of the question's words, words of its own up to a limit, form, less filler and repetition."""
    text = excerpt(answer)
    asked, said = content_words(question), content_words(text)
    wanted = math.fsum(knowledge.weight(word) for word in asked)
    coverage = math.fsum(knowledge.weight(word) for word in set(asked).intersection(said)) / wanted if wanted else 0.0
    own = len(set(said).difference(asked, _ABOUT_THE_ANSWER))
    informative = min(1.0, math.log1p(own) / math.log1p(_ENOUGH_WORDS))
    spoken = [sentence for block in blocks(text) for sentence in sentences(block)]
    n_filler = sum(1 for sentence in spoken if _FILLER.search(sentence))
    filler = n_filler / max(1, len(spoken))
    score = 2.0 * min(1.0, coverage / _ENOUGH_COVERAGE) + 6.0 * informative + _form(text) - _repetition(text)
    # Squared: a remark in passing does little harm, a text of nothing else is worthless.
    score -= 4.0 * filler**2 + 0.7 * min(n_filler, 3)
    return Quality(max(0.0, score), coverage, own, n_filler)


def _form(text: str) -> float:
    """0 to 1.1 for paragraphs, lists and code."""
    return 0.3 * (len(blocks(text)) > 1) + 0.4 * (len(_LIST_ITEM.findall(text)) > 1) + 0.4 * ("```" in text)


def _repetition(text: str) -> float:
    """0 to 3: the share of word triples that occurred before."""
    said = words(text)
    triples = list(zip(said, said[1:], said[2:], strict=False))
    return 3.0 * (1 - len(set(triples)) / len(triples)) if triples else 0.0


def instruction_quality(instruction: str, knowledge: Knowledge) -> float:
    """0 to 1: how much an instruction asks for, less vagueness. It counts a little where whole samples are compared."""
    asked = content_words(instruction)
    demanding = min(1.0, math.log1p(len(asked)) / math.log1p(25))
    return max(0.0, demanding - 0.4 * min(2, len(_FILLER.findall(excerpt(instruction)))))


@dataclass(frozen=True)
class Judgement:
    """``letter`` is the verdict, ``odds`` log p(A) - log p(B) where one letter is asked for, ``remarks`` the comparison in words."""

    letter: str
    odds: float
    remarks: str


def weigh(prompt: str, knowledge: Knowledge) -> Judgement:
    """What a fixed formula makes of the two answers in a judge prompt."""
    found = read_comparison(prompt)
    if found is None:
        lost = "The two answers cannot be told apart. Nothing in this message marks where each begins."
        return Judgement("C", 0.0, lost)
    a = quality(found.question_a, found.answer_a, knowledge)
    b = quality(found.question_b, found.answer_b, knowledge)
    difference = a.score - b.score
    if found.whole_samples:
        difference += instruction_quality(found.question_a, knowledge) - instruction_quality(
            found.question_b, knowledge
        )
    # The same for both orders of the two, which is what makes a lean on position show as a reversal.
    sides = sorted([[found.question_a, found.answer_a], [found.question_b, found.answer_b]])
    leans = sides[0] != sides[1] and Draw("position", sides).number("lean") < LEANS_ON_POSITION
    if abs(difference) < NEAR_MARGIN and leans:
        verdict = "A"
    elif abs(difference) <= TIE_MARGIN:
        verdict = "C"
    else:
        verdict = "A" if difference > 0 else "B"
    return Judgement(verdict, difference + NEAR_MARGIN * leans, _remarks((a, b), verdict))


def judge(prompt: str, knowledge: Knowledge, draw: Draw) -> str:
    """A comparison in two sentences and a last line ``[A]``, ``[B]`` or ``[C]``, or what else the prompt asks for; ``draw`` is the
    request's."""
    said = weigh(prompt, knowledge)
    if _ONE_LETTER in prompt:
        return "A" if said.odds >= 0 else "B"
    if _AS_JSON in prompt:
        return json.dumps({"comparison": said.remarks, "verdict": said.letter}, ensure_ascii=False)
    return said.remarks if draw.number("forgets") < FORGETS_VERDICT else f"{said.remarks}\n\n[{said.letter}]"


def grade(prompt: str, knowledge: Knowledge) -> str | None:
    """The answer's grade, 1 to 10, by the same formula, in the form that ``grade_answer`` asks for; None where the prompt is another."""
    marks = ("[User Question]\n", "\n[Start of "), ("[Start of Assistant's Answer]\n", "[End of Assistant's Answer]")
    question, answer = (_between(prompt, (mark,)) for mark in marks)
    if question is None or answer is None or "[Grade]" not in prompt:
        return None
    found = quality(question, answer, knowledge)
    number = max(1, min(10, 1 + round(0.9 * found.score)))
    return f"{_remark('It', found)}.\n\n[[{number}]]"


def letter_logprobs(prompt: str, knowledge: Knowledge) -> dict[str, float]:
    """The log-probabilities of A and B as the one letter that a prompt asks for."""
    odds = weigh(prompt, knowledge).odds
    return {"A": -math.log1p(math.exp(-odds)), "B": -math.log1p(math.exp(odds))}


def _remarks(pair: Sequence[Quality], verdict: str) -> str:
    one, other = (_remark(name, side) for name, side in zip(("A", "B"), pair, strict=True))
    outcome = {"A": "that speaks for A", "B": "that speaks for B", "C": "that makes them equally good"}[verdict]
    return f"{one}. {other}; {outcome}."


def _remark(name: str, side: Quality) -> str:
    return f"{name} takes up {side.coverage:.0%} of what is asked and adds {side.n_words} words of its own" + (
        f", beside {side.n_filler} empty remarks" if side.n_filler else ""
    )
