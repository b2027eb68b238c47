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
