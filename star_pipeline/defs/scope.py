"""How the definitions of one lake are named, so that several lakes stand side by side in one code location."""

from dataclasses import dataclass

import dagster as dg

from star_pipeline.instance.scopes import pool_of


@dataclass(frozen=True)
class Scope:
    """One lake's names: asset keys begin with ``prefix``; jobs, sensors, pool, partitions and resources carry it in their names.

    Without a prefix every name is the plain one.
    """

    prefix: tuple[str, ...] = ()

    @classmethod
    def of(cls, key: dg.AssetKey) -> "Scope":
        """The scope that an asset of this key belongs to."""
        return cls(tuple(key.path[:-1]))

    def key(self, asset: str) -> dg.AssetKey:
        return dg.AssetKey([*self.prefix, asset])

    def name(self, plain: str) -> str:
        return "_".join([*self.prefix, plain])

    @property
    def tag(self) -> str:
        """The prefix as the runs' ``SCOPE_TAG`` has it."""
        return "/".join(self.prefix)

    @property
    def partitions(self) -> dg.DynamicPartitionsDefinition:
        """How the data is cut: one partition a shard of seeds."""
        return dg.DynamicPartitionsDefinition(name=self.name("seed_shards"))

    @property
    def pool(self) -> str:
        """The pool of one run that all assets of the loop share, so that shards do not interleave."""
        return pool_of(self.tag)


@dataclass(frozen=True)
class Presentation:
    """What the UI is told beside the data: who owns the assets (``team:x`` or addresses), and how old what is published may be."""

    owners: tuple[str, ...] = ()
    freshness: dg.FreshnessPolicy | None = None
