"""What went wrong with the journal's file, and what to do about it."""

import sqlite3
from pathlib import Path

from star_pipeline.core.errors import StorageTrouble


def is_of_the_storage(error: Exception) -> bool:
    """The database or the disk is at fault, and not what was to be written."""
    return isinstance(error, OSError | sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError


def trouble(path: Path, reason: str) -> StorageTrouble:
    return StorageTrouble(f"journal {path}: {reason}; {_remedy(reason)}")


def _remedy(reason: str) -> str:
    if "full" in reason or "space" in reason:
        return "what was answered is kept; free some space, then run again"
    if "expected" in reason:
        return "expected this version's journal: move the file away, or name another folder in journal:"
    if "not a database" in reason or "malformed" in reason:
        return "expected a journal: move the file away (its replies would be paid again) or restore it, then run again"
    if "locked" in reason:
        return "another process has held it for a minute; wait until it has ended, or stop it"
    return "expected a folder on a local disk that can be written; mend that, then run again"
