"""What can be written to the journal in PostgreSQL, as plain data: ``transaction`` makes many changes in few statements.

``once`` names a change that must not be made twice: whether a transaction was committed cannot be told where the connection is lost
meanwhile, and it is then made again.
"""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from star_pipeline.core.journal import Paid, Sent, words


@dataclass(frozen=True)
class Add:
    """``found``: it may be the reply to its request; else it is booked, and never to be found."""

    paid: Paid
    reservation: int | None
    batch: int | None
    once: uuid.UUID = field(default_factory=uuid.uuid4)
    at: float = field(default_factory=time.time)
    found: bool = True


@dataclass(frozen=True)
class Claim:
    key: bytes
    purpose: str


@dataclass(frozen=True)
class Reserve:
    agent: str
    stage: str
    pico: int
    limit: int
    once: uuid.UUID = field(default_factory=uuid.uuid4)


@dataclass(frozen=True)
class Release:
    reservation: int


@dataclass(frozen=True)
class Keep:
    reservation: int
    fate: str


@dataclass(frozen=True)
class Begin:
    marker: str
    agent: str
    owner: str
    requests: Sequence[Sent]
    limit: int | None


@dataclass(frozen=True)
class Uploaded:
    batch: int
    file: str


@dataclass(frozen=True)
class Created:
    batch: int
    remote: str


@dataclass(frozen=True)
class Drop:
    batch: int
    sent: Sequence[Sent]
    billed_as: str | None


def storable(paid: Paid) -> Paid:
    """A reply as PostgreSQL can hold it: its texts hold no NUL; the reply's own text is kept as bytes."""
    entry = replace(paid.entry, finish_reason=text(paid.entry.finish_reason), purpose=text(paid.entry.purpose))
    return replace(paid, entry=entry)


def text(said: str) -> str:
    return words(said).replace("\0", "\ufffd")


Change = Add | Claim | Reserve | Release | Keep | Begin | Uploaded | Created | Drop
