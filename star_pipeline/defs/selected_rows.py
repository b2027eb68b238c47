"""What an asset depends on that asks for ``selected_rows``."""

from star_pipeline.adapters.selected_rows import OF_CANDIDATES
from star_pipeline.core.tables import SEED_SHARDS
from star_pipeline.defs.asset_factory import AllShards

SELECTED_ROWS_DEPS = [AllShards(spec.name) for spec in (SEED_SHARDS, *OF_CANDIDATES)]
"""Beside the catalogue."""
