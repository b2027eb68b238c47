"""What comes in: the forms of a seed record (``formats``), what a valid seed is (``seeds``), which shard it falls into (``catalog``).

Reading the files themselves is ``star_pipeline.adapters.record_files`` and ``seed_files``.
"""
