"""Content-addressed names: the same content has the same name on every machine, and nothing else has."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence

from star_pipeline.core.records import Message


def digest(*parts: object, length: int = 16) -> str:
    """First ``length`` hex digits of the SHA-256 of the parts as canonical JSON."""
    canonical = json.dumps(parts, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:length]


def seed_id(system: str | None, history: Sequence[Message], instruction: str, response: str) -> str:
    """A seed's name is its content: where it stands in which file does not matter."""
    return digest("seed", system, [[turn.role, turn.content] for turn in history], instruction, response)


def candidate_id(seed_id: str, pair_id: str, snapshot_id: str) -> str:
    return digest("candidate", seed_id, pair_id, snapshot_id, length=20)


def snapshot_id(parent_snapshot_id: str, shard: str, probabilities: Sequence[tuple[str, float]]) -> str:
    """Names a snapshot by its history and its numbers, to the last bit of each."""
    return digest("snapshot", parent_snapshot_id, shard, [[pair, p.hex()] for pair, p in probabilities])


def is_unicode(text: str) -> bool:
    """Whether a text can be written: JSON lets half a character through (a lone surrogate), UTF-8 does not."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def shard_key(number: int, source: str) -> str:
    """``000042-slug``: zero-padded, so that the order of the keys is the order of the shards."""
    stem = source.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    ascii_stem = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_stem).strip("-")[:32].strip("-")
    return f"{number:06d}-{slug or 'seeds'}"


def shard_number(key: str) -> int:
    """The number at the front of a shard's key. Raises ValueError where there is none."""
    return int(key.split("-", 1)[0])
