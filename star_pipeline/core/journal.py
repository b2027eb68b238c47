"""The journal's port: every reply kept before anything uses it, the money, and the batches that are on their way.

Money is whole 1e-12 USD. Adapters: ``adapters.journal``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from star_pipeline.core.aliases import JsonObject
from star_pipeline.core.ports import ChatRequest
from star_pipeline.core.records import AgentSpend

PICO = 10**12
"""Of a USD: running totals in floats would drift."""
MOST = 2**63 - 1
"""What a database can hold: a sum stays there, since one beyond it would be a float, or an error."""
AHEAD = "ahead/"
"""What the purpose of a request begins with that is asked ahead of the step which needs it: its reply is booked on what needs it first,
in the order of the steps, as if it had been asked then."""


@dataclass(frozen=True)
class Entry:
    """A reply as it was paid: by which lake and for what, tokens and cost (1e-12 USD), seconds, tries."""

    lake: str
    purpose: str
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    pico: int
    latency_s: float
    attempts: int
    top_logprobs: tuple[tuple[str, float], ...] = ()

    @property
    def storable(self) -> "Entry":
        """Numbers that fit into 64 bits and are none below 0, words without half characters; the text is kept as it is."""
        return replace(
            self,
            finish_reason=words(self.finish_reason),
            purpose=words(self.purpose),
            prompt_tokens=number(self.prompt_tokens),
            completion_tokens=number(self.completion_tokens),
            pico=number(self.pico),
        )


@dataclass(frozen=True)
class Paid:
    """A reply to be kept, with what it was asked as: all that is told of it but its text is counted and booked."""

    key: bytes
    agent: str
    stage: str
    template: str
    sample: int
    model: str
    prompt_bytes: int
    entry: Entry

    @classmethod
    def of(cls, key: bytes, request: ChatRequest, model: str, prompt_bytes: int, entry: Entry) -> "Paid":
        return cls(
            key,
            request.agent,
            request.stage,
            request.template,
            request.sample,
            words(model),
            prompt_bytes,
            entry.storable,
        )

    @property
    def numbers(self) -> tuple[int, int, int, int]:
        """(prompt bytes, prompt tokens, completion tokens, cost)."""
        return self.prompt_bytes, self.entry.prompt_tokens, self.entry.completion_tokens, self.entry.pico


@dataclass(frozen=True)
class Spend:
    """What a lake spent on an agent in a stage; money in 1e-12 USD.

    ``reserved`` is the worst case of the ``reservations`` tries that are in flight, or whose fate nobody knows.
    """

    agent: str
    stage: str
    replies: int
    prompt_bytes: int
    prompt_tokens: int
    completion_tokens: int
    spent: int
    reservations: int
    reserved: int

    @property
    def in_usd(self) -> AgentSpend:
        return AgentSpend(
            self.agent, self.stage, self.replies, self.prompt_tokens, self.completion_tokens, self.spent / PICO,
            self.reservations, self.reserved / PICO,
        )  # fmt: skip  # a field's value each


@dataclass(frozen=True)
class Batch:
    """``file`` and ``remote`` are the provider's names of the uploaded file and of the batch, None until they are known.

    ``owner`` names the process that sends it, ``marker`` is told to the provider, ``at`` (seconds since 1970) is when it was sent.
    """

    id: int
    marker: str
    agent: str
    owner: str
    file: str | None
    remote: str | None
    at: float


@dataclass(frozen=True)
class Sent:
    """One request of a batch: all that its reply is booked with. ``worst`` (1e-12 USD) is what its try can cost at most."""

    key: bytes
    lake: str
    agent: str
    stage: str
    purpose: str
    template: str
    sample: int
    params: JsonObject
    prompt_bytes: int
    prompt_bound: int
    tries: int
    reservation: int | None = None
    worst: int | None = None

    @property
    def request(self) -> ChatRequest:
        """The request as far as it is known here: without its messages."""
        return ChatRequest(self.agent, (), self.template, "", self.params, self.sample, self.stage, self.purpose)


@dataclass
class Begun:
    """What became of requests that were to be sent: their batch (None where none is left), and those left out of it, by reason."""

    batch: int | None = None
    taken: list[bytes] = field(default_factory=list)
    elsewhere: list[bytes] = field(default_factory=list)
    beyond_budget: list[bytes] = field(default_factory=list)


class Journal(Protocol):
    """The journal of one lake, for use by one event loop; other processes, and other lakes, may use the same one at the same time.

    What is awaited holds up no event loop, and what it wrote is on disk when it returns; what is not awaited is for who opens or closes.
    Everything raises StorageTrouble where the storage does not do what it should.
    """

    @property
    def lake(self) -> str:
        """The lake's name in the journal."""
        ...

    def describe(self) -> str:
        """Where it is, for a person; no secrets."""
        ...

    async def find(self, key: bytes) -> Entry | None:
        """The reply to a request that was answered before. Raises once the storage is in trouble: nothing more may be asked then."""
        ...

    async def add(self, paid: Paid, reservation: int | None = None, batch: int | None = None) -> Entry:
        """Keep a reply, book its cost and settle its reservation, at once; returns the reply to use.

        Where another process has answered the same request meanwhile, its reply is the one to use; ours is booked all the same, unless it
        came out of ``batch`` and another process has booked it from there. Raises CallError where this reply alone cannot be kept.
        """
        ...

    async def claim(self, key: bytes, purpose: str) -> Entry | None:
        """Book a reply that was asked ahead on ``purpose``, unless another one has claimed it; returns it as it is then."""
        ...

    async def reserve(self, agent: str, stage: str, pico: int, limit: int) -> int | None:
        """The reservation's id; None, and nothing changed, where the lake would get beyond ``limit``."""
        ...

    async def release(self, reservation: int) -> None:
        """Its try certainly cost nothing."""
        ...

    async def keep(self, reservation: int, fate: str) -> None:
        """Nobody knows whether its try was billed: it counts in full, for good."""
        ...

    async def begin_batch(
        self, marker: str, agent: str, owner: str, requests: Sequence[Sent], limit: int | None
    ) -> Begun:
        """Write a batch down, with a reservation for each of its requests where there is a ``limit``.

        Left out: requests that are answered, or in another open batch, and from the first one on that the budget is too small for, the
        rest. A request is in at most one open batch, and leaves it once.
        """
        ...

    async def batch(self, batch: int) -> Batch | None: ...

    async def uploaded(self, batch: int, file: str) -> None:
        """From here on the batch may exist at the provider."""
        ...

    async def created(self, batch: int, remote: str) -> None: ...

    async def holding(self, key: bytes) -> int | None:
        """The open batch that a request is in."""
        ...

    async def in_batches(self) -> set[bytes]:
        """All requests in open batches."""
        ...

    async def sent_in(self, batch: int) -> list[Sent]:
        """The requests that are still in a batch, in the order in which they were put there."""
        ...

    async def drop(self, batch: int, sent: Sequence[Sent], billed_as: str | None = None) -> list[bool]:
        """Take requests out that got no reply, and whether each was still there; ``billed_as`` says why they may have been billed all
        the same, None that they were not."""
        ...

    def any_open(self) -> bool:
        """Whether any batch is."""
        ...

    def spend(self) -> list[Spend]:
        """By agent and stage."""
        ...

    def replies(self) -> int:
        """How many requests are answered, whichever lake paid."""
        ...

    def recount(self) -> bool:
        """Rebuild what was spent from the replies and reservations; returns whether the running totals were right."""
        ...

    async def aclose(self) -> None:
        """Wait until all that was written is on disk, then close."""
        ...

    def close(self) -> None: ...


class JournalReader(Protocol):
    """What a journal tells of a lake to those who ask nobody; where none is yet it tells of nothing, and none is made."""

    def find(self, key: bytes) -> Entry | None: ...

    def ledger(self) -> list[Spend]:
        """What the lake spent, by agent and stage."""
        ...

    def spend(self) -> list[AgentSpend]:
        """The same in USD."""
        ...

    def describe(self) -> str: ...


def words(said: object) -> str:
    """A text that a database can hold: without half characters."""
    return str(said).encode("utf-8", "replace").decode()


def number(said: object) -> int:
    """A count or amount that a database can hold."""
    whole = int(said) if isinstance(said, int | float) and said == said and abs(said) != float("inf") else 0
    return min(max(whole, 0), MOST)
