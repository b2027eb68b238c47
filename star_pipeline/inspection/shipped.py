"""The shipped queries: one SQL file and one view each. Its opening comments say what it answers, and what its columns hold."""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from importlib import resources

TOPICS = ("health", "pairs", "scores", "judge", "cost", "seeds", "data_set", "study")
STORED = frozenset({"probabilities"})
"""Queries that are tables in the file: their columns depend on the data, which a view's cannot."""
SUPERSEDED = "superseded"
"""The folder of queries under a name that another one has taken over: still there for those who ask them, and not listed."""

_ROOM = resources.files("star_pipeline.inspection")
_COLUMN = re.compile(r"(\w+): (.+)")
_READ = re.compile(r"\b(?:FROM|JOIN) (\w+)")


@dataclass(frozen=True)
class ShippedQuery:
    """``question`` is what it answers, ``notes`` how to read it, ``columns`` what a column holds where its name does not say it."""

    topic: str
    name: str
    question: str
    notes: str
    columns: Mapping[str, str]
    text: str

    @property
    def sql(self) -> str:
        """The statement without its opening comments."""
        return re.sub(r"\A(?:--.*\n)+", "", self.text).strip()


def parse_query(topic: str, name: str, text: str) -> ShippedQuery:
    """The query of a SQL file: the first comment line is the question, lines ``-- column: …`` describe columns, the rest are notes."""
    question, notes = "", []
    columns: dict[str, str] = {}
    for number, line in enumerate(text.splitlines()):
        if not line.startswith("--"):
            break
        said = line.removeprefix("--").strip()
        if number == 0:
            question = said
        elif match := _COLUMN.fullmatch(said):
            columns[match[1]] = match[2]
        else:
            notes.append(said)
    return ShippedQuery(topic, name, question, " ".join(notes), columns, text)


@functools.cache
def shipped_queries() -> Mapping[str, ShippedQuery]:
    """name -> the query, by topic and name."""
    return {name: query for topic in TOPICS for name, query in _of_topic(topic).items()}


@functools.cache
def superseded_queries() -> Mapping[str, ShippedQuery]:
    """name -> the query; its notes begin with the name of the one that took over."""
    return _of_topic(SUPERSEDED)


def _of_topic(topic: str) -> dict[str, ShippedQuery]:
    found = {}
    for entry in sorted((_ROOM / "queries" / topic).iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".sql"):
            name = entry.name.removesuffix(".sql")
            found[name] = parse_query(topic, name, entry.read_text("utf-8"))
    return found


def in_order_of_use() -> list[ShippedQuery]:
    """The shipped queries, superseded ones too, each after those that it reads."""
    queries = {**shipped_queries(), **superseded_queries()}
    reads = {name: set(_READ.findall(query.sql)) & set(queries) for name, query in queries.items()}
    return [queries[name] for name in TopologicalSorter(reads).static_order()]


def statements(name: str) -> str:
    """A SQL file of this package that is no query: ``macros``, ``origins``, ``seed_lineage`` or ``health_rows``."""
    return (_ROOM / f"{name}.sql").read_text("utf-8")
