"""Pairs of texts whose answer is known, because they are made of a seed: its own response beside one that is plainly worse."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from star_pipeline.core import identity
from star_pipeline.core.equations.sampling import uniform
from star_pipeline.core.records import SEED_PAIR, Candidate, IfdScore, Seed

ProbeKind = Literal["foreign", "truncated", "shuffled", "numbers", "same"]
DIFFER_PLAINLY: tuple[ProbeKind, ...] = ("foreign", "truncated")
PLAIN: tuple[ProbeKind, ...] = (*DIFFER_PLAINLY, "same")
"""What nobody who reads both texts can miss. The other kinds take a closer look: they are told, and decide less."""
_LEAST_CHARACTERS, _BLOCK = 24, 8
_SENTENCE = re.compile(r"(?<=[.!?。！？])\s+|\n+")
_NUMBER = re.compile(r"\d+")
_COUNTS_A_LINE = re.compile(r"^[ \t]*(\d+)[.)]", re.MULTILINE)


@dataclass(frozen=True)
class Probe:
    """``response`` stands beside the seed's own, in answer to the seed's instruction."""

    kind: ProbeKind
    seed_id: str
    response: str

    @property
    def candidate_id(self) -> str:
        return identity.digest("probe", self.kind, self.seed_id, self.response, length=20)


def probes_of(seeds: Sequence[Seed]) -> list[Probe]:
    """The probes of each seed that has a response, in order; the same seeds give the same probes.

    ``foreign``: another seed's response. ``truncated``: the first half of its own. ``numbers``: its own with every number changed,
    or, where it holds none, ``shuffled``: its sentences in another order. ``same``: its own once more. What a response does not
    allow (three words cannot be cut) is left out.
    """
    return [probe for number, seed in enumerate(seeds) if seed.response.strip() for probe in _of_seed(seeds, number)]


def _of_seed(seeds: Sequence[Seed], number: int) -> Iterator[Probe]:
    seed, (other, *_) = seeds[number], [*others(seeds, number), None]
    made: list[tuple[ProbeKind, str | None]] = [
        ("foreign", other.response if other else None),
        ("truncated", truncated(seed.response)),
    ]
    changed = numbers_changed(seed.response)
    made.append(("numbers", changed) if changed else ("shuffled", shuffled(seed.response)))
    made.append(("same", seed.response))
    yield from (Probe(kind, seed.seed_id, text) for kind, text in made if text)


def others(seeds: Sequence[Seed], number: int) -> list[Seed]:
    """The other seeds with another instruction and another response, beginning with the one half way round its block of eight.

    Neighbours in a file are often alike; and of more seeds the first ones shall have the same partners, which are paid.
    """
    seed, count = seeds[number], len(seeds)
    partner = number - number % _BLOCK + (number + _BLOCK // 2) % _BLOCK
    first = partner if partner < count else number + count // 2
    rest = [seeds[(first + step) % count] for step in range(count)]
    return [
        other
        for other in rest
        if other.response.strip() and other.instruction != seed.instruction and other.response != seed.response
    ]


def truncated(text: str) -> str | None:
    """The first half, cut between words where there are some; None of a text that is too short."""
    text = text.strip()
    if len(text) < _LEAST_CHARACTERS:
        return None
    half = text[: len(text) // 2]
    words = half.rsplit(None, 1)
    return words[0] if len(words) == 2 and len(words[0]) > len(half) // 2 else half


def shuffled(text: str) -> str | None:
    """Its sentences in another order; None of fewer than three."""
    sentences = [part for part in _SENTENCE.split(text.strip()) if part.strip()]
    if len(set(sentences)) < 3:
        return None
    order = sorted(range(len(sentences)), key=lambda place: uniform("shuffled", text, place))
    mixed = [sentences[place] for place in order]
    return " ".join(mixed if mixed != sentences else reversed(sentences))


def numbers_changed(text: str) -> str | None:
    """Every number another one of as many digits, but for those that count lines; None where there is none."""
    counting = {found.start(1) for found in _COUNTS_A_LINE.finditer(text)}

    def other(found: re.Match[str]) -> str:
        if found.start() in counting:
            return found[0]
        first, *rest = (int(digit) for digit in found[0])
        return "".join(map(str, [first % 9 + 1, *((digit + 3) % 10 for digit in rest)]))

    changed = _NUMBER.sub(other, text)
    return changed if changed != text else None


def comparisons(probes: Sequence[Probe], seeds: Sequence[Seed]) -> tuple[list[Candidate], list[IfdScore]]:
    """The probes as candidates beside the seed's own response as the reference, as the judge takes them, with gaps that let it be asked."""
    rows: list[Candidate] = []
    of_seed: dict[str, list[Probe]] = {}
    for probe in probes:
        of_seed.setdefault(probe.seed_id, []).append(probe)
    for seed in seeds:
        if mine := of_seed.get(seed.seed_id):
            own = text_row(identity.digest("own", seed.seed_id, length=20), seed, 0, SEED_PAIR, seed.response)
            rows += [
                own,
                *(text_row(p.candidate_id, seed, slot, p.kind, p.response) for slot, p in enumerate(mine, start=1)),
            ]
    return rows, [IfdScore(row.candidate_id, row.seed_id, "ok", False, gap=1.0) for row in rows]


def text_row(
    candidate_id: str, seed: Seed, slot: int, pair_id: str, response: str, instruction: str | None = None
) -> Candidate:
    """A text that nobody was asked for, as a candidate of the seed."""
    asked = seed.instruction if instruction is None else instruction
    return Candidate(
        candidate_id, seed.seed_id, slot, pair_id, asked, response, "ok", None, None, 0, 0, 0, 0.0, 0.0
    )  # fmt: skip


TRUE, OTHER = "true", "other"
"""Whose instruction a seed's response is scored with: its own, or another seed's."""
_OTHERS = 2


def scoring_rows(seeds: Sequence[Seed]) -> list[Candidate]:
    """Each seed's response with its own instruction, and with those of two other seeds: rows to score, ``pair_id`` says which."""
    rows = []
    for number, seed in enumerate(seeds):
        if not seed.response.strip():
            continue
        foreign = others(seeds, number)
        chosen = [foreign[math.floor(part * len(foreign) / _OTHERS)] for part in range(min(_OTHERS, len(foreign)))]
        for slot, (kind, asked) in enumerate(
            [(TRUE, seed.instruction), *((OTHER, other.instruction) for other in chosen)]
        ):
            name = identity.digest("scored", kind, seed.seed_id, asked, length=20)
            rows.append(text_row(name, seed, slot, kind, seed.response, asked))
    return rows
