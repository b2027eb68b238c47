"""Star-Agents as a Dagster project (arXiv 2411.14497): better instruction data for one target model.

The flow, shard after shard::

    seed files -> seed_catalog -> seed_shards -> sampling_plan -> candidates -> ifd_scores -> judge_verdicts
                                       ^                                                          |
                                       |                                                   composite_scores
                       prior_state     |                                                          |
                            ^----------+--- agent_pair_probabilities <- memory_bank <-------------+
                                                                                                  |
                                                       inspection <- star_dataset <---------------+

``core`` is pure: records, tables, ports and the paper's equations. ``adapters`` make the outside real. ``assets`` are thin:
load, call one core function, return a table with metadata. ``definitions`` puts them together; ``cli`` is the console.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from star_pipeline.defs.component import StarAgents as StarAgents

__all__ = ["StarAgents"]


def __getattr__(name: str) -> object:
    """``StarAgents``, loaded when it is asked for: the command and the core do without Dagster's components."""
    if name == "StarAgents":
        from star_pipeline.defs.component import StarAgents

        return StarAgents
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
