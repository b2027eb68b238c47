"""Dagster's face of the pipeline: assets (``assets/``, one a file), jobs, sensors, schedules, resources, the I/O manager.

``scope`` names the definitions of one lake, ``asset_factory`` makes an asset out of a function, ``build`` puts all of it together,
``component`` offers it to other Dagster projects. Bodies are thin: what is computed lives in ``star_pipeline.core``, what touches
the outside in ``star_pipeline.adapters``; what the running instance needs (queue, launcher, storage) in ``star_pipeline.instance``.
"""
