"""Definitions for a real daemon with instant models: chat, lake, memory bank and Dagster are real, scorer and embedder fakes.

The environment names lake and configuration, as ``star-pipeline dev`` does.
"""

import os

from star_pipeline.defs.build import build_defs
from star_pipeline.defs.resources import LakeResource, SettingsResource
from star_pipeline_tests.conftest import fake_resources

_fakes = fake_resources(
    SettingsResource(config=os.environ["STAR_CONFIG"]), LakeResource(root=os.environ["STAR_LAKE"]), ease=1.0
)
defs = build_defs({name: _fakes[name] for name in ("scorer", "embedder")})
