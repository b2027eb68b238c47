"""The paper's equations and what they say to LLMs, in the order of the loop; one file each.

``sampling`` Eq. 3, ``generation`` with ``replies`` and ``reply_cleaning`` Eq. 2, ``ifd`` Eq. 4, ``judging`` and ``verdicts`` Eq. 6,
``composite`` Eq. 5 and 7, ``selection`` Eq. 1, ``evolution`` Eq. 8; ``prompts`` with ``templates/`` for agents and judge,
``ifd_templates`` for scoring models. Nothing here reads a file, calls a server or knows Dagster: who does is handed in through
``core.ports``.
"""
