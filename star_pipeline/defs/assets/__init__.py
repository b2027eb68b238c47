"""The assets, one a file, in the order of the flow. Each loads its inputs, calls the core and returns a table with metadata."""

from star_pipeline.defs.assets.agent_pair_probabilities import agent_pair_probabilities
from star_pipeline.defs.assets.calibration import calibration
from star_pipeline.defs.assets.candidates import candidates
from star_pipeline.defs.assets.composite_scores import composite_scores
from star_pipeline.defs.assets.ifd_scores import ifd_scores
from star_pipeline.defs.assets.inspection import inspection
from star_pipeline.defs.assets.judge_verdicts import judge_verdicts
from star_pipeline.defs.assets.memory_bank import memory_bank
from star_pipeline.defs.assets.report import report
from star_pipeline.defs.assets.sampling_plan import sampling_plan
from star_pipeline.defs.assets.seed_catalog import seed_catalog
from star_pipeline.defs.assets.seed_shards import seed_shards
from star_pipeline.defs.assets.star_dataset import star_dataset
from star_pipeline.defs.assets.study import study_assets
from star_pipeline.defs.assets.task_domains import task_domains

LOOP_ASSETS = [
    seed_shards,
    sampling_plan,
    candidates,
    ifd_scores,
    judge_verdicts,
    composite_scores,
    memory_bank,
    agent_pair_probabilities,
]
ALL_ASSETS = [calibration, seed_catalog, *LOOP_ASSETS, task_domains, star_dataset, inspection, report]
"""In every graph; ``study_assets`` are where a study is configured."""
__all__ = ["ALL_ASSETS", "LOOP_ASSETS", "study_assets"]
