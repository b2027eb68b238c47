"""Ports: a Protocol for every outside thing. Adapters make them real; ``adapters.fakes`` holds fakes for tests and trials."""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from star_pipeline.core.aliases import JsonObject, Vectors
from star_pipeline.core.records import IfdStatus, MemoryEntry, Message, Neighbour


@dataclass(frozen=True)
class ChatRequest:
    """One LLM request. ``sample`` counts the times the same question is asked for another answer.

    ``optional`` names parameters that nobody set: a server that refuses them goes without.
    All that decides the reply is in here or in the agent's configuration, so that a journal can key on it. ``stage`` (rewrite,
    respond, judge) and ``purpose``, which names the one thing in the lake that the reply is for, decide nothing: its cost is
    booked there.
    """

    agent: str
    messages: tuple[Message, ...]
    template: str
    template_version: str
    params: JsonObject = field(default_factory=dict)
    sample: int = 0
    stage: str = ""
    purpose: str = ""
    optional: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ChatReply:
    """``text`` as it came (``core.replies`` tells the answer in it); ``finish_reason`` is the provider's own word.

    Tokens and USD are as billed, ``latency_s`` in seconds.

    ``booked`` is False where the reply was paid for another purpose: its tokens, cost, time and attempts are booked there.
    ``top_logprobs``: the likeliest first tokens with their log-probabilities (nats), where the request asked for them.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    latency_s: float
    attempts: int = 1
    booked: bool = True
    top_logprobs: tuple[tuple[str, float], ...] = ()


class ChatModel(Protocol):
    """All the agents of a configuration behind one door: journal, limits, retries and budget live behind it."""

    async def complete(self, request: ChatRequest) -> ChatReply:
        """Raises errors.CallError once the call has failed for good."""
        ...

    async def aclose(self) -> None:
        """Keep what has been answered, and let go of everything else."""
        ...


@dataclass(frozen=True)
class ScoringSample:
    """What the target is to be scored on: the response, given system, history and instruction."""

    system: str | None
    history: tuple[Message, ...]
    instruction: str
    response: str


@dataclass(frozen=True)
class ModelFit:
    """What of a response a model can take: ``status`` ok or why it cannot be scored; ``kept_chars`` of its text."""

    status: IfdStatus
    kept_chars: int


@dataclass(frozen=True)
class ResponseLoss:
    """Mean negative log-likelihoods, in nats, over the same ``n_tokens`` response tokens in both passes (Eq. 4)."""

    n_tokens: int
    nll_given: float
    nll_alone: float


Heard = Callable[[int, ResponseLoss], None]
"""Told a sample's number and its loss, from whatever thread computed it."""


class Scorer(Protocol):
    """One causal LM that tells how hard a response is for it."""

    @property
    def weights(self) -> str:
        """Names by its content what decides the numbers; empty where that cannot be told."""
        ...

    def fit(self, samples: Sequence[ScoringSample]) -> list[ModelFit]:
        """How many characters of each response fit into the model's limit beside the prompt."""
        ...

    def losses(
        self,
        samples: Sequence[ScoringSample],
        kept_chars: Sequence[int],
        heard: Heard | None = None,
        groups: Sequence[int] | None = None,
    ) -> list[ResponseLoss]:
        """Losses of each response cut to its first ``kept_chars`` characters (at most what ``fit`` told).

        ``heard`` may be told some of them before all are there. ``groups`` are the sizes of runs of samples: what is computed for one
        run is, to the bit, what it would be without the others. Without it all are one run.
        """
        ...


class Embedder(Protocol):
    def embed(self, texts: Sequence[str]) -> Vectors:
        """float32 array of shape (len(texts), dimension), rows of length 1."""
        ...


class MemoryBank(Protocol):
    def nearest(self, vectors: Vectors, limit: int, before: int) -> list[list[Neighbour]]:
        """For each row of ``vectors`` the ``limit`` entries of highest cosine among those with ``sequence < before``."""
        ...

    def remembers(self, before: int) -> bool:
        """Whether there is any entry with ``sequence < before``, so that embeddings are worth computing."""
        ...

    def replace_shard(self, shard: str, entries: Sequence[MemoryEntry], vectors: Vectors) -> int:
        """Make ``entries`` the only ones of ``shard``; returns the number of entries in the whole bank."""
        ...

    def kept_vectors(self, instructions: Mapping[str, str]) -> dict[str, Vectors]:
        """candidate_id -> embedding, of those ``instructions`` (by candidate_id) that are kept with exactly this text."""
        ...

    def cache_embeddings(
        self, instructions: Mapping[str, str], vectors: Iterable[Vectors], wanted: Container[str]
    ) -> None:
        """Keep embeddings of instructions that are not remembered; no search finds them.

        ``vectors`` (n, d) belong to ``instructions`` (by candidate_id). Of those kept before, ``wanted`` candidates' stay.
        """
        ...


class Progress(Protocol):
    """Told how far a long stage has come. Shards name themselves first, stages follow."""

    def stage(self, name: str, total: int, later: float = 0.0) -> None:
        """A stage of ``total`` steps begins; ``later`` steps of the like are known to follow it, and count in the time left."""
        ...

    def advance(self, count: int = 1) -> None: ...

    def note(self, text: str) -> None: ...


@dataclass(frozen=True)
class Stored:
    """An object of a store: its size in bytes, when it was written (s since 1970 by the store's clock), and what changes with it."""

    key: str
    size: int
    modified: float
    etag: str


class Store(Protocol):
    """Whole objects by their keys (``tables/candidates/00001.parquet``): a reader sees the old one or the new one, never half of one.

    Where none is there FileNotFoundError is raised, where the store does not answer or refuses, errors.StoreError.
    """

    def get(self, key: str) -> bytes: ...

    def open(self, key: str, etag: str | None = None) -> BinaryIO:
        """To read in pieces, all of one version: where it is not this ``etag``, or is replaced meanwhile, errors.StoreError is raised."""
        ...

    def put(self, key: str, data: bytes | Path) -> str:
        """Put bytes, or a local file's, in the place of what is there; returns the new ETag."""
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Put where nothing is there yet; of all who try at once one succeeds. False: it is another's."""
        ...

    def head(self, key: str) -> Stored | None: ...

    def list(self, prefix: str) -> Iterator[Stored]:
        """All objects below the folder ``prefix``, in no order."""
        ...

    def delete(self, key: str) -> None:
        """It may be gone already."""
        ...
