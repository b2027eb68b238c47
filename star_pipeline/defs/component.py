"""The pipeline as a Dagster component: YAML in a team's own project, one lake each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from star_pipeline.config import profile_names
from star_pipeline.defs.build import build_defs


class StarAgents(dg.Component, dg.Model, dg.Resolvable):
    """Star-Agents: better instruction-tuning data for one target model, from seed files to the final Parquet.

    Each instance is one lake, and so one target model; several stand side by side under a key prefix each.
    """

    config: str | dict[str, Any] = Field(
        "offline",
        description="a profile (offline, local, paper), the path of a YAML file, or the settings themselves; paths start from this "
        "component's folder",
        examples=["local", "star.yaml"],
    )
    lake: str = Field(
        "data_lake",
        description="root of the lake; a relative path starts from the project's root",
        examples=["data_lake", "/data/lakes/pythia-1b"],
    )
    prefix: str | Sequence[str] = Field(
        (),
        description="leads every asset's key and every job's name, so that several lakes do not collide",
        examples=["pythia_1b"],
    )

    @classmethod
    def get_spec(cls) -> dg.ComponentTypeSpec:
        return dg.ComponentTypeSpec(
            description="Star-Agents (arXiv 2411.14497): rewrites, answers, scores and selects instruction data for one target model.",
            tags=["llm", "instruction-tuning", "data-quality"],
        )

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        config = self.config
        if isinstance(config, str) and config not in profile_names():
            config = str(Path(context.path, config).expanduser())
        lake = str(Path(context.project_root, self.lake).expanduser())
        return build_defs(
            config=config, lake=lake, prefix=[self.prefix] if isinstance(self.prefix, str) else self.prefix
        )
