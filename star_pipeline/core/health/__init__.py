"""The health of a lake, over all shards together: do its judge, scores and probabilities carry information?

Each room-mate finds the lines of one subject: ``judge``, ``scores``, ``pairs``, ``agents``; ``lines`` says what a line is and how its
verdict comes about, ``rows`` what the figures are computed from, ``examination`` puts them in order. The figures' formulas are in the
docstrings, and for users in the guide "In production". All is pure; ``star_pipeline.inspection.health`` reads the tables.
"""
