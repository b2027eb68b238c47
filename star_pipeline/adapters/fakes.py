"""Fakes of the ports, for tests and trials: instant, deterministic, without network or models."""

import hashlib
from collections.abc import Callable, Container, Iterable, Mapping, Sequence

import numpy as np

from star_pipeline.core.aliases import Vectors
from star_pipeline.core.errors import CallError
from star_pipeline.core.ports import ChatReply, ChatRequest, Heard, ModelFit, ResponseLoss, ScoringSample
from star_pipeline.core.records import MemoryEntry, Neighbour


def _number(*parts: object) -> float:
    """A number in [0, 1) from a hash of the parts."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


class ScriptedChat:
    """Answers with what ``script`` makes of a request: a text, a whole reply, or an error to raise. Keeps the requests."""

    def __init__(self, script: Callable[[ChatRequest], str | ChatReply | CallError]) -> None:
        self._script = script
        self.requests: list[ChatRequest] = []

    async def complete(self, request: ChatRequest) -> ChatReply:
        self.requests.append(request)
        said = self._script(request)
        if isinstance(said, CallError):
            raise said
        if isinstance(said, ChatReply):
            return said
        tokens = sum(len(message.content.split()) for message in request.messages)
        return ChatReply(said, "stop", tokens, len(said.split()), 0.0, 0.0)

    async def aclose(self) -> None: ...


class HashScorer:
    """Losses that are a function of the texts alone; ``name`` tells one model from another. A word is a token.

    ``ease`` is how much, in nats, an instruction helps this model at least: a larger model has more of it.
    """

    weights = ""

    def __init__(self, name: str, ease: float = 0.0) -> None:
        self._name = name
        self._ease = ease

    def fit(self, samples: Sequence[ScoringSample]) -> list[ModelFit]:
        return [ModelFit("ok" if sample.response else "empty_response", len(sample.response)) for sample in samples]

    def losses(
        self,
        samples: Sequence[ScoringSample],
        kept_chars: Sequence[int],
        heard: Heard | None = None,
        groups: Sequence[int] | None = None,
    ) -> list[ResponseLoss]:
        found = []
        for sample, kept in zip(samples, kept_chars, strict=True):
            text = sample.response[:kept]
            alone = 2 + _number(self._name, text)
            given = alone - self._ease - _number(self._name, sample.instruction, text)
            found.append(ResponseLoss(max(len(text.split()), 1), given, alone))
        return found


class HashEmbedder:
    """Unit vectors of ``size`` dimensions: a bag of hashed words, so that texts that share words are near."""

    def __init__(self, size: int = 64) -> None:
        self._size = size

    def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = np.zeros((len(texts), self._size), np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split() or [""]:
                vectors[row, int(_number(word) * self._size)] += 1
        unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-9)
        return unit


class ListBank:
    """A memory bank in a list, searched exhaustively with numpy."""

    def __init__(self) -> None:
        self._rows: list[tuple[MemoryEntry, Vectors]] = []
        self._beside: list[tuple[str, str, Vectors]] = []

    def nearest(self, vectors: Vectors, limit: int, before: int) -> list[list[Neighbour]]:
        rows = [(entry, vector) for entry, vector in self._rows if entry.sequence < before]
        found = []
        for query in vectors:
            near = [Neighbour(entry.seed_id, entry.pair_id, float(query @ vector)) for entry, vector in rows]
            found.append(sorted(near, key=lambda n: (-n.similarity, n.seed_id))[:limit])
        return found

    def remembers(self, before: int) -> bool:
        return any(entry.sequence < before for entry, _ in self._rows)

    def replace_shard(self, shard: str, entries: Sequence[MemoryEntry], vectors: Vectors) -> int:
        self._rows = [row for row in self._rows if row[0].shard != shard]
        self._rows += list(zip(entries, vectors, strict=True))
        return len(self._rows)

    def kept_vectors(self, instructions: Mapping[str, str]) -> dict[str, Vectors]:
        rows = [(entry.candidate_id, entry.instruction, vector) for entry, vector in self._rows]
        return {name: vector for name, text, vector in (*self._beside, *rows) if instructions.get(name) == text}

    def cache_embeddings(
        self, instructions: Mapping[str, str], vectors: Iterable[Vectors], wanted: Container[str]
    ) -> None:
        stay = [row for row in self._beside if row[0] in wanted and row[0] not in instructions]
        self._beside = stay + [(*named, vector) for named, vector in zip(instructions.items(), vectors, strict=True)]
