"""What to do next: which shard is made again from which asset and why, what a watcher asks for, what a run would cost.

Pure decisions over what is there; who looks it up and acts is ``star_pipeline.commands.run`` and ``star_pipeline.defs``.
"""
