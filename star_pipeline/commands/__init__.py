"""The console's commands, one a file. ``star_pipeline.cli`` parses the command line, these do the work and print.

What a command computes lives in ``star_pipeline.core``, what it reads and writes in ``star_pipeline.adapters``.
"""
