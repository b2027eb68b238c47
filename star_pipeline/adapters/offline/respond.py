"""Response agents: four ways of answering a question, of plainly different quality.

An answer is built on *material*: the closest starter seed's answer, or the draft that the request shows. Where
there is neither, it is an honest outline from the question's own words and related sentences. The agents differ in
what they do with it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from star_pipeline.adapters.offline.knowledge import CLOSE, Knowledge, Match, topic_words
from star_pipeline.adapters.offline.text import (
    Draw,
    as_written,
    blocks,
    content_words,
    is_verbatim,
    sentences,
)

_RELATED_FROM = 0.08
_SHORT_CODE = 600

RAMBLING = (
    "To be honest, {0} is one of those topics that a lot of people have a lot of feelings about, and so on.",
    "It really depends, and at the end of the day everyone has to find out for themselves.",
    "Generally speaking there are various aspects and various factors, and in many ways they all matter.",
    "Some people say one thing, some people say something else, and it is hard to say who is right.",
    "I could go on about {0}, but basically it is what it is.",
    "There is a lot more that could be said, of course, and maybe another time.",
    "It goes without saying that this is an interesting topic, and there are many things to think about.",
    "As far as I know it can be good or it can be bad, sort of, depending on the situation.",
    "Anyway, things like {1} come up again and again, and that is kind of the point.",
    "Needless to say, opinions differ, and in a way that is fine.",
)
_ESSAY_OPENINGS = (
    "It goes without saying that {0} deserves a careful look before anything is said about it.",
    "In many ways, a question about {0} opens a wide field, and no short answer does it justice.",
    "Generally speaking, a question about {0} is best approached with patience.",
)
_ESSAY_CLOSINGS = (
    "At the end of the day, {0} and {1} belong together, and there is a lot more that could be said about both.",
    "In conclusion, {0} repays the attention that one gives it, and so does {1}.",
    "All in all, {0} is worth the time that one gives it, and there would be more to add.",
)
_TUTOR_OPENINGS = (
    "You are asking about {topics}; here is the answer, one thing at a time.",
    "The question turns on {first}. The answer, in order:",
    "Here is the answer, with what it rests on:",
)
_TUTOR_CLOSINGS = (
    "Check it against the question: {topics} should be settled above.",
    "Read it once more with {first} in mind: nothing that was asked for should be left open.",
)


@dataclass(frozen=True)
class Question:
    """What an agent answers: the last user turn, the user turns before it, and what there is to build an answer on."""

    text: str
    earlier: tuple[str, ...]
    topics: tuple[str, ...]
    material: str
    is_draft: bool
    related: tuple[str, ...]


def understand(text: str, earlier: Sequence[str], draft: str | None, knowledge: Knowledge) -> Question:
    """Look the question up. A draft that holds anything takes the place of a known answer."""
    found = topic_words(text, earlier)
    matches = knowledge.nearest(found)
    # The rarest words say best what it is about; they are named in the order of the question.
    rarest = set(sorted(found, key=lambda word: (word.isdigit(), -knowledge.weight(word)))[:3])
    topics = as_written("\n".join([text, *earlier]), [word for word in found if word in rarest])
    material = (draft or "").strip()
    if not material and matches and matches[0].overlap >= CLOSE:
        material = matches[0].example.response.strip()
    return Question(
        text=text,
        earlier=tuple(earlier),
        topics=tuple(topics),
        material=material,
        is_draft=bool((draft or "").strip()),
        related=_related_sentences(found, matches, material),
    )


def _related_sentences(found: Sequence[str], matches: Sequence[Match], material: str) -> tuple[str, ...]:
    """Sentences of the best-overlapping answers that share most with the question; none of the material's."""
    wanted = set(found)
    scored: list[tuple[int, float, str]] = []
    for match in matches:
        if match.overlap < _RELATED_FROM or match.example.response.strip() == material:
            continue
        for block in blocks(match.example.response):
            if not is_verbatim(block):
                scored.extend(
                    (-len(wanted.intersection(content_words(sentence))), -match.overlap, sentence)
                    for sentence in sentences(block)
                    if 5 <= len(sentence.split()) <= 40
                )
    return tuple(sentence for _, _, sentence in sorted(scored)[:3])


def _listed(topics: Sequence[str]) -> str:
    if not topics:
        return "what was asked"
    return topics[0] if len(topics) == 1 else f"{', '.join(topics[:-1])} and {topics[-1]}"


def _named(question: Question) -> tuple[str, str]:
    """Two things to talk about, whatever the question holds."""
    first = question.topics[0] if question.topics else "this"
    return first, question.topics[-1] if len(question.topics) > 1 else "the rest of it"


def _outline(question: Question) -> list[str]:
    """An honest answer where nothing close is known: what is asked for, in which parts, and what is known nearby."""
    if not question.topics:
        return ["There is no question in this message to answer. Name the subject and what you want to know about it."]
    parts = [f"I know no worked answer to this, so here is how to get to one on {_listed(question.topics)}."]
    steps = [f"Settle what is meant by {question.topics[0]}, and what is given about it."]
    steps.extend(f"Look at how {topic} bears on that, with one concrete example." for topic in question.topics[1:])
    steps.append(f"Put the parts together into one statement about {question.topics[-1]}, and say how sure it is.")
    parts.append("\n".join(f"{number}. {step}" for number, step in enumerate(steps, start=1)))
    if question.related:
        parts.append("What is known nearby: " + " ".join(question.related))
    return parts


def _without_last_remark(body: Sequence[str]) -> list[str]:
    """All but the last sentence, where that is a remark after something else; code, lists and one-liners stay whole."""
    said = [] if is_verbatim(body[-1]) else sentences(body[-1])
    if len(said) > 1:
        return [*body[:-1], " ".join(said[:-1])]
    return list(body[:-1]) if said and len(body) > 1 else list(body)


def _tutor(question: Question, draw: Draw) -> str:
    """Best: the material whole or all but whole, opened by what is asked and closed by a check."""
    body = blocks(question.material) or _outline(question)
    lead = draw.pick("opening", _TUTOR_OPENINGS).format(
        topics=_listed(question.topics), first=_listed(question.topics[:1])
    )
    if question.earlier and draw.number("earlier") < 0.5:
        before = as_written(question.earlier[-1], content_words(question.earlier[-1])[:2])
        lead = f"This goes on from {_listed(before)}. {lead}" if before else lead
    form = draw.number("form")
    if form < 0.5:
        # Less than its source here, more than it elsewhere: so that now the one is better, now the other.
        body = _without_last_remark(body)
    elif form < 0.65 and not is_verbatim(body[0]) and 3 <= len(sentences(body[0])) <= 8:
        first, *others = sentences(body[0])
        body = [f"{first}\n\n" + "\n".join(f"- {sentence}" for sentence in others), *body[1:]]
    closing = draw.pick("closing", _TUTOR_CLOSINGS).format(
        topics=_listed(question.topics), first=_listed(question.topics[:1])
    )
    return "\n\n".join([lead, *body, closing] if draw.number("close") < 0.5 else [lead, *body])


def _essayist(question: Question, draw: Draw) -> str:
    """Good, but wrapped in padding, and with remarks that lead away from the question."""
    named = _named(question)
    parts = [draw.pick("opening", _ESSAY_OPENINGS).format(*named), *(blocks(question.material) or _outline(question))]
    if question.material and question.related:
        parts.append("In a wider sense, this has its place beside other things. " + " ".join(question.related[:2]))
    return "\n\n".join([*parts, draw.pick("closing", _ESSAY_CLOSINGS).format(*named)])


def _brief(question: Question, draw: Draw) -> str:
    """Correct but terse: the first sentence that says something, or a short piece of code."""
    opening = draw.pick("opening", ("In short: ", "Briefly: ", "The gist: "))
    for block in blocks(question.material):
        if block.startswith("```"):
            return (
                f"{opening.strip()}\n\n{block}"
                if len(block) <= _SHORT_CODE
                else f"{opening}{block[3:120]!r}, and so forth."
            )
        if not block.startswith("#"):
            first = sentences(block.splitlines()[0])
            said = next((sentence for sentence in first if len(content_words(sentence)) >= 2), first[0])
            return opening + said
    if question.topics:
        return f"{opening}it comes down to {_listed(question.topics)}, and I know no more about that."
    return f"{opening}I see no question here."


def _rambler(question: Question, draw: Draw) -> str:
    """Poor: filler that names the subject and says nothing about it."""
    said = draw.sample("filler", RAMBLING, 3 + int(draw.number("length") * 3))
    text = " ".join(said).format(*_named(question))
    if question.is_draft:
        return f'{text} Something like "{" ".join(question.material.split()[:8])[:80]}", more or less, I guess.'
    return text if question.topics else f"Well, {text[0].lower()}{text[1:]}"


_AGENTS: Mapping[str, Callable[[Question, Draw], str]] = {
    "tutor": _tutor,
    "essayist": _essayist,
    "brief": _brief,
    "rambler": _rambler,
}


def respond(agent: str, text: str, earlier: Sequence[str], draft: str | None, knowledge: Knowledge, draw: Draw) -> str:
    """The agent's answer to ``text``: never empty, and never ``text`` or ``draft`` as it was.

    ``earlier`` are the user turns before it. With ``draft``, the agent builds on that instead of on what it knows.
    """
    return _AGENTS[agent](understand(text, earlier, draft, knowledge), draw)
