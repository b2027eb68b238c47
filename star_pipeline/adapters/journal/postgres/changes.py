"""What can be written to the journal in PostgreSQL, as plain data: ``transaction`` makes many changes in few statements.

``once`` names a change that must not be made twice: whether a transaction was committed cannot be told where the connection is lost
meanwhile, and it is then made again.
"""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from star_pipeline.core.journal import Paid, Sent


@dataclass(frozen=True)
class Add:
    paid: Paid
    reservation: int | None
    batch: int | None
    once: uuid.UUID = field(default_factory=uuid.uuid4)
    at: float = field(default_factory=time.time)


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


Change = Add | Claim | Reserve | Release | Keep | Begin | Uploaded | Created | Drop
