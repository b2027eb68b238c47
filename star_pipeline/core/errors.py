"""What can go wrong, by who has to act. Every message says what, where, what was expected and the remedy, in one line."""


class StarError(Exception):
    """A user can act on it: it is shown as one line, without a traceback."""


class ConfigError(StarError):
    """The configuration or the command line asks for something that cannot be."""


class SeedError(StarError):
    """A seed file cannot be read as seeds; names file, row and field."""


class LakeError(StarError):
    """The lake is not as it should be: locked, unwritable, or a table does not fit its schema."""


class LakeBusy(LakeError):
    """Somebody else is at work on the lake; once they have ended, the same request works."""


class StorageTrouble(LakeError):
    """A disk or a database below the lake does not do what it should: full, broken, out of reach. What was answered is kept."""


class StoreError(StorageTrouble):
    """The object storage that holds the lake does not answer, or refuses."""


class ModelError(StarError):
    """A scoring or embedding model cannot be loaded or used."""


class OrderError(StarError):
    """A shard was asked for before its predecessor's snapshot was there."""


class CheckFailed(StarError):
    """A table is not what it has to be: it was not written, and nothing is made from it."""


class AgentDown(StarError):
    """An agent does not answer, and will not: its key is rejected, its model or its server is not there."""


class BudgetReached(StarError):
    """The next request could cost more than is left of the budget."""


class CallError(StarError):
    """One LLM call failed for good.

    ``kind`` is a short name to count by (``timeout``, ``rate_limit``, ``authentication``, …); ``attempts`` counts the tries.
    """

    def __init__(self, kind: str, message: str, attempts: int = 1) -> None:
        super().__init__(message)
        self.kind = kind
        self.attempts = attempts


def in_short(error: Exception, limit: int = 200) -> str:
    """An error's first sentences in one line, cut between words."""
    text = " ".join(str(error).split())
    return text if len(text) <= limit else text[:limit].rsplit(" ", 1)[0] + " …"
