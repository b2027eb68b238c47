"""What Dagster loads: the definitions of one lake, named by the environment (STAR_CONFIG, STAR_LAKE)."""

from star_pipeline.defs.build import build_defs

defs = build_defs()
