"""What the offline agents know: the starter seeds, searched by shared content words."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from star_pipeline.adapters.offline.text import content_words

SEEDS_FILE = "starter_seeds.jsonl"
CLOSE = 0.5
"""From this overlap on, two questions are taken to ask the same."""
_FEW_WORDS = 4


@dataclass(frozen=True)
class Example:
    """A starter seed: the last user turn (with its input appended), its answer, and what came before."""

    instruction: str
    response: str
    system: str | None = None
    history: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Match:
    """An example and how much of its topic a question shares, 0 to 1."""

    example: Example
    overlap: float


def parse_examples(jsonl: str) -> tuple[Example, ...]:
    """Examples of a JSONL text with Alpaca fields; ValueError names the line that is none."""
    examples = []
    for number, line in enumerate(jsonl.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            instruction = f"{row['instruction']}\n{row['input']}" if row.get("input") else str(row["instruction"])
            history = tuple((str(user), str(assistant)) for user, assistant in row.get("history") or ())
            examples.append(Example(instruction, str(row["output"]), row.get("system") or None, history))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"starter seeds, line {number}: expected instruction, input, output ({error!r})"
            ) from error
    return tuple(examples)


def topic_words(question: str, earlier: Sequence[str]) -> list[str]:
    """Content words of a question; one that says little by itself ("And in winter?") borrows the turns before it."""
    found = content_words(question)
    if len(found) < _FEW_WORDS and earlier:
        found = list(dict.fromkeys([*found, *content_words(" ".join(earlier[-2:]))]))
    return found


class Knowledge:
    """An inverted index over examples: idf-weighted overlap of content words."""

    def __init__(self, examples: Iterable[Example]) -> None:
        self.examples = tuple(examples)
        self._topics = [
            frozenset(topic_words(example.instruction, [user for user, _ in example.history]))
            for example in self.examples
        ]
        counts = Counter(word for topic in self._topics for word in topic)
        self._rarest = math.log(2 + len(self.examples))
        self._idf = {word: math.log((2 + len(self.examples)) / (1 + count)) for word, count in counts.items()}
        self._postings: dict[str, list[int]] = {}
        for number, topic in enumerate(self._topics):
            for word in topic:
                self._postings.setdefault(word, []).append(number)
        # fsum: a set's order differs from process to process, and with it the last bit of a sum
        self._squares = [math.fsum(self.weight(word) ** 2 for word in topic) for topic in self._topics]

    def weight(self, word: str) -> float:
        """Inverse document frequency; a word that no example has is the rarest."""
        return self._idf.get(word, self._rarest)

    def nearest(self, question_words: Sequence[str], count: int = 3) -> list[Match]:
        """The best-overlapping examples, best first; those that share nothing are left out."""
        shared: dict[int, float] = {}
        for word in question_words:
            for number in self._postings.get(word, ()):
                shared[number] = shared.get(number, 0.0) + self.weight(word) ** 2
        square = sum(self.weight(word) ** 2 for word in question_words)
        matches = [
            Match(self.examples[number], self._overlap(number, value, square, len(question_words)))
            for number, value in sorted(shared.items())
        ]
        return sorted(matches, key=lambda match: -match.overlap)[:count]

    def _overlap(self, number: int, shared: float, square: float, n_words: int) -> float:
        cosine = shared / math.sqrt(square * self._squares[number])
        topic_size = len(self._topics[number])
        # A rewritten instruction holds all of the old one and more; a cosine alone would take it for another question.
        contained = shared / self._squares[number] if topic_size >= _FEW_WORDS and n_words <= 6 * topic_size else 0.0
        return max(cosine, 0.9 * contained)


@lru_cache(maxsize=1)
def shipped_examples() -> tuple[Example, ...]:
    """The starter seeds of this package, read once."""
    return parse_examples(files("star_pipeline.adapters.offline").joinpath(SEEDS_FILE).read_text(encoding="utf-8"))


@lru_cache(maxsize=1)
def shipped_knowledge() -> Knowledge:
    """The index over the starter seeds, built once."""
    return Knowledge(shipped_examples())
