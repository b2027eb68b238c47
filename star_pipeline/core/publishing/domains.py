"""What the final data set is about: domains of instructions that are near each other, each named by its typical words."""

import math
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from star_pipeline.core.aliases import Numbers, Vectors
from star_pipeline.core.publishing.near_duplicates import near_duplicates
from star_pipeline.core.publishing.rows import best_first
from star_pipeline.core.records import Message, StarRow, TaskDomain

_FEW = 10
_MOST, _WORDS, _MORE_WORDS = 30, 4, 8
_READ = 2000
_MORE_STOP_WORDS = frozenset({"did", "does", "doing"})
# scripts without spaces: Han, kana, Thai, Lao, Khmer, Burmese
_UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
)
# vowel signs and accents, which are no letters for `re`
_MARKS = r"\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0dff"
_TERM = re.compile(rf"[{_UNSPACED}]+|(?:(?![{_UNSPACED}])[^\W\d_]|[{_MARKS}])+")


def domain_count(rows: int) -> int:
    """sqrt(rows / 8), from 2 to 30; one domain for fewer than ten rows."""
    return 1 if rows < _FEW else min(max(round(math.sqrt(rows / 8)), 2), _MOST)


def cluster(vectors: Vectors, count: int) -> Numbers:
    """k-means of the rows of ``vectors`` (n, d) into at most ``count`` domains: labels of shape (n,), 0 being the largest.

    The same rows in the same order give the same labels; of domains of one size, the one whose first row comes first is first.
    """
    rows = len(vectors)
    if rows == 0 or count <= 1:
        return np.zeros(rows, np.int64)
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    # the sums of several threads differ from run to run in their last bits
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than domains: those are then fewer
        model = KMeans(min(count, rows), n_init=3, max_iter=100, random_state=0)
        found = model.fit_predict(np.asarray(vectors, np.float32))
    _, first, labels, sizes = np.unique(found, return_index=True, return_inverse=True, return_counts=True)
    place = np.empty(len(sizes), np.int64)
    place[np.lexsort((first, -sizes))] = np.arange(len(sizes))
    return place[labels]


def terms(text: str) -> Iterator[str]:
    """The words of a text in lower case, stop words left out; pairs of characters in scripts without spaces."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    for found in _TERM.findall(text[:_READ].lower()):
        if re.match(f"[{_UNSPACED}]", found):
            yield from (found[place : place + 2] for place in range(len(found) - 1))
        elif len(found) > 1 and found not in ENGLISH_STOP_WORDS and found not in _MORE_STOP_WORDS:
            yield found


def domain_names(texts: Sequence[str], labels: Sequence[int]) -> list[str]:
    """A name for each label 0, 1, …: the typical words of its texts, joined by ", ". No two names are the same, none is empty.

    Typical is what has a high class-based TF-IDF: the share of the domain's texts that hold the word, times
    log(1 + texts / texts that hold it). A word of one text alone is taken only where nothing else is there.
    """
    inside: list[Counter[str]] = [Counter() for _ in range(max(labels, default=-1) + 1)]
    for text, label in zip(texts, labels, strict=True):
        inside[label].update(list(dict.fromkeys(terms(text))))
    everywhere: Counter[str] = Counter()
    for found in inside:
        everywhere.update(found)
    sizes = Counter(labels)
    names: list[str] = []
    for label, found in enumerate(inside):

        def typical(term: str, found: Counter[str] = found, size: int = sizes[label]) -> tuple[bool, float]:
            weight = found[term] / size * math.log(1 + len(texts) / everywhere[term])
            return found[term] == 1, -weight  # equal ones stay in the order of the text

        names.append(_name(sorted(found, key=typical), names))
    return names


def _name(ordered: Sequence[str], taken: Sequence[str]) -> str:
    """The first of the words that are not alike, and more of them where that name is taken."""
    words: list[str] = []
    for term in ordered:
        if not any(_alike(term, word) for word in words):
            words.append(term)
        if len(words) == _MORE_WORDS:
            break
    for count in range(min(_WORDS, len(words)), len(words) + 1):
        name = ", ".join(words[:count]) or "no words"
        if name not in taken:
            return name
    base = ", ".join(words) or "no words"
    return next(f"{base} ({n})" for n in range(2, len(taken) + 3) if f"{base} ({n})" not in taken)


def _alike(term: str, word: str) -> bool:
    """Overlapping pairs of characters, and a word beside its plural."""
    if re.match(f"[{_UNSPACED}]", term):
        return bool(set(term) & set(word))
    return term.rstrip("s") == word.rstrip("s")


def task_domains(rows: Sequence[StarRow], vectors: Vectors, count: int | None, least: float) -> list[TaskDomain]:
    """Domain, nearest neighbour and group of near-duplicates of each row.

    ``vectors`` (n, d): embeddings of the rows' instructions, of length 1. ``count``: the domains; None: by the number of rows.
    ``least``: the cosine from which rows are near-duplicates. Rows are ranked by pi, then gap, then seed_id; rows with other
    earlier turns or another system prompt are no near-duplicates, whatever their instructions.
    """
    labels = [int(label) for label in cluster(vectors, count or domain_count(len(rows)))]
    names = domain_names([row.instruction for row in rows], labels)
    contexts: dict[tuple[Message, ...], int] = {}
    context = [contexts.setdefault(row.messages[:-2], len(contexts)) for row in rows]
    near = near_duplicates(vectors, best_first(rows), context, least)
    found = []
    for number, row in enumerate(rows):
        other = int(near.nearest[number])
        found.append(
            TaskDomain(
                seed_id=row.seed_id,
                candidate_id=row.candidate_id,
                shard=row.shard,
                domain=labels[number],
                domain_name=names[labels[number]],
                nearest_seed_id=rows[other].seed_id if other >= 0 else None,
                nearest_similarity=round(float(near.similarity[number]), 6) if other >= 0 else None,
                near_duplicate_of=rows[int(near.leader[number])].seed_id,
            )
        )
    return found
