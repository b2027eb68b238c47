"""The outside made real, each fitting a port of the core: nothing here decides what is good data, and nothing knows Dagster.

``lake`` is every path and every write, ``seed_files``, ``record_files`` and ``seed_state`` the seeds, ``snapshots``, ``shard_state`` and
``consistency`` what the tables say of each other, ``dataset_files`` and ``export_files`` what is published, ``memory`` and ``embedder`` the
bank; ``llm`` calls LLMs, ``scoring`` runs the scoring models, ``offline`` is what the offline profile runs on; ``study`` tunes
models on a lake's rows and measures them. ``preflight`` looks before money is spent. Equations live in ``star_pipeline.core``, what
Dagster sees in ``star_pipeline.defs``.
"""
