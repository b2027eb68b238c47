"""Which machine keeps the replies of a lake in object storage, where no database keeps them for all: it alone may run the lake."""

import json
import socket
import uuid

from upath import UPath

from star_pipeline.adapters.journal.sqlite.file import FILE
from star_pipeline.adapters.stores.paths import StorePath, placed
from star_pipeline.core.errors import LakeError

_NAME, _OWN = "kept_by.json", "kept_by"
REMEDY = "journal: {postgres_env: STAR_DATABASE}"
"""What to configure for several machines."""


def kept_in(journal: UPath) -> bool:
    """Whether the machine with this journal is the one that keeps the replies."""
    return bool((journal / _OWN).exists())


def keeper_elsewhere(root: UPath, journal: UPath) -> tuple[str, str, UPath] | None:
    """(host, folder, the note that says so) of another machine that kept the replies; None where none did, or this one."""
    note, own = root / "journal" / _NAME, journal / _OWN
    if not note.is_file():
        return None
    told = json.loads(note.read_bytes())
    mine = own.exists() and own.read_text("utf-8") == told["id"]
    return None if mine else (told["host"], told["folder"], note)


def require_kept_here(root: StorePath, journal: UPath, from_now_on: bool) -> None:
    """Raises LakeError where another machine keeps the replies. ``from_now_on``: be the one that does, where nobody is yet."""
    note, own = root / "journal" / _NAME, journal / _OWN
    mine = own.read_text("utf-8") if own.exists() else ""
    if not note.is_file():
        copied = root / "journal" / FILE
        if not mine and not (journal / FILE).exists() and copied.is_file():  # a lake of a folder, put there with a tool
            raise LakeError(
                f"{copied}: the replies of the folder that this lake was copied from, which are read from a disk alone; download it (and "
                f"{FILE}-wal, if there is one) to {journal / FILE}, then run again; remove it from the bucket to pay for all anew"
            )
        if not from_now_on:
            return
        if not mine:
            mine = uuid.uuid4().hex
            store, key = placed(own)
            store.put(key, mine.encode())
        told = {"id": mine, "host": socket.gethostname(), "folder": str(journal)}
        if note.store.create(note.key, json.dumps(told).encode()):
            return
    told = json.loads(note.read_bytes())
    if told["id"] != mine:
        raise LakeError(
            f"{root}: its replies are kept on {told['host']} in {told['folder']}, and only with them is nothing paid twice; run it there, "
            f"or keep them in a database for all machines ({REMEDY}); where that folder is gone for good, remove {note}"
        )
