"""What the disk, or the database, below a command did wrong."""


def storage_trouble(error: BaseException | None) -> str | None:
    """In one line, what a full, broken or read-only disk did, to our files or to Dagster's storage, and the remedy; None for anything
    else."""
    from sqlalchemy.exc import DBAPIError

    remedy = "free some space or mend the permissions, then run the same command to go on"
    while error:
        if isinstance(error, OSError) and error.strerror:
            return error.strerror + (f" ({error.filename})" if error.filename else "") + f"; {remedy}"
        if isinstance(error, DBAPIError):
            said = " ".join(str(error.orig).split())
            if "sqlite" in type(error.orig).__module__:
                return f"Dagster's storage in the lake: {said}; {remedy}"
            return f"Dagster's storage: {said}; see that its database runs and can be reached, then run the same command to go on"
        error = error.__cause__ or error.__context__
    return None
