"""How many shards are drawn before anything has been learnt (design contract, section 10): what a lag costs. Pure decisions."""

from collections.abc import Sequence
from dataclasses import dataclass

_MUCH = 0.1
_FIRST = 8
"""Seeds of the first shards, where they are to be small."""


@dataclass(frozen=True)
class Unlearnt:
    """With ``lag`` the first ``shards`` of ``of_shards``, which have ``seeds`` of ``of_seeds``: their plans see no shard's outcome."""

    lag: int
    shards: int
    of_shards: int
    seeds: int
    of_seeds: int

    @property
    def share(self) -> float:
        """Of the seeds."""
        return self.seeds / self.of_seeds

    @property
    def is_much(self) -> bool:
        return self.share > _MUCH

    @property
    def text(self) -> str:
        """In a line, with the remedy where it is much."""
        said = (
            f"evolution.lag {self.lag}: the first {self.shards:,} of {self.of_shards:,} shards ({self.seeds:,} of {self.of_seeds:,} "
            f"seeds, {self.share:.0%}) are drawn without having learnt from any"
        )
        if not self.is_much:
            return said
        size = int(_MUCH * self.of_seeds / (1 + self.lag))
        first = [f"sampling.first_shard_size {_FIRST}"] if self.seeds > _FIRST * self.shards else []
        smaller = [f"sampling.shard_size {size}"] if size >= _FIRST else []
        return f"{said}; for fewer: {', or '.join([*first, *smaller, 'evolution.lag 0'])}"


def unlearnt(sizes: Sequence[int], planned: Sequence[bool], lag: int) -> Unlearnt | None:
    """Of shards of these sizes, in order; ``planned``: whose plan is drawn already. None without a lag, and where all such shards are
    planned: there is nothing to choose any more."""
    count = min(1 + lag, len(sizes))
    if not lag or not sum(sizes) or all(planned[:count]):
        return None
    return Unlearnt(lag, count, len(sizes), sum(sizes[:count]), sum(sizes))
