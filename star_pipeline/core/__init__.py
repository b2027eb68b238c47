"""The pure core: no Dagster, no files, no network; the linter says so.

``equations`` holds the paper's mathematics, one file each; ``intake`` what a seed record is and which shard it falls into;
``planning`` what is to be done next and what it would cost; ``publishing`` what is made of all shards together. On the landing stands
the ground they share: ``records`` and their ``tables``, ``ports`` to the outside, ``errors``, ``identity`` (names by content),
``checks``, ``aliases`` (types with a name), ``rates`` and ``intervals`` (what a figure may really be), and ``markdown`` (how
foreign text is shown).
What touches a disk, a model or a server lives in ``star_pipeline.adapters``; what Dagster sees in ``star_pipeline.defs``.
"""
