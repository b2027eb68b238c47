"""What the disk below a command did wrong."""

import sqlite3


def storage_trouble(error: BaseException | None) -> str | None:
    """In one line, what a full, broken or read-only disk did, to our files or to Dagster's SQLite; None for anything else."""
    while error:
        if isinstance(error, OSError) and error.strerror:
            return error.strerror + (f" ({error.filename})" if error.filename else "")
        if isinstance(error, sqlite3.Error):
            return f"Dagster's storage in the lake: {error}"
        error = error.__cause__ or error.__context__
    return None
