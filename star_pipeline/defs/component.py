"""The pipeline as a Dagster component: YAML in a team's own project, one lake each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from star_pipeline.config import load_config, profile_names
from star_pipeline.config.load import dataset_paths, study_paths
from star_pipeline.core.aliases import JsonObject
from star_pipeline.core.errors import ConfigError
from star_pipeline.defs.build import build_defs
from star_pipeline.defs.scope import Scope


class StarAgents(dg.Component, dg.Model, dg.Resolvable):
    """Star-Agents: better instruction-tuning data for one target model, from seed files to the final Parquet.

    Each instance is one lake, and so one target model; several stand side by side under a key prefix each.
    """

    config: str | dict[str, Any] = Field(  # Any: what YAML can say; dg.Model makes the component's JSON schema of it
        "offline",
        description="a profile (offline, laptop, local, paper), the path of a YAML file, or the settings themselves; paths start from this "
        "component's folder",
        examples=["local", "star.yaml"],
    )
    lake: str = Field(
        "data_lake",
        description="root of the lake, a folder or s3://bucket/prefix; a relative path starts from the project's root",
        examples=["data_lake", "/data/lakes/pythia-1b", "s3://lakes/pythia-1b"],
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
        """Raises DagsterInvalidDefinitionError, in a line that names the component, where its settings are no configuration or
        another component of the project has its lake or its names."""
        try:
            self._require_its_own(context)
            config = _anchored(self.config, context.path)
            load_config(config)
        except ConfigError as error:
            raise dg.DagsterInvalidDefinitionError(f"{context.path}: {error}") from None
        return build_defs(config=config, lake=str(self._root(context)), prefix=self._scope.prefix)

    @property
    def _scope(self) -> Scope:
        return Scope((self.prefix,) if isinstance(self.prefix, str) and self.prefix else tuple(self.prefix))

    def _root(self, context: dg.ComponentLoadContext) -> Path | str:
        if "://" in self.lake:
            return self.lake.rstrip("/")
        return Path(context.project_root, Path(self.lake).expanduser()).resolve()

    def _require_its_own(self, context: dg.ComponentLoadContext) -> None:
        """Raises ConfigError where a lake or a name belongs to two components."""
        mine = self._root(context)
        others = context.component_tree.get_all_components(of_type=StarAgents)
        if sum(other._root(context) == mine for other in others) > 1:
            raise ConfigError(
                f"lake {mine} belongs to another StarAgents component as well; give each a lake of its own"
            )
        # jobs and sensors join the prefix by underscores
        if sum(other._scope.name("") == self._scope.name("") for other in others) > 1:
            what = f"prefix {'/'.join(self._scope.prefix)}" if self._scope.prefix else "no prefix"
            raise ConfigError(f"another StarAgents component has {what} as well; give each a prefix of its own")


def _anchored(config: str | JsonObject, folder: Path) -> str | JsonObject:
    """The configuration with paths that start from ``folder``, where the component's YAML lies."""
    if isinstance(config, str):
        return config if config in profile_names() else str(Path(folder, Path(config).expanduser()))
    anchored = dict(config)
    if isinstance(prompts := anchored.get("prompts"), dict):
        anchored["prompts"] = {name: str(Path(folder, str(file))) for name, file in prompts.items()}
    if isinstance(journal := anchored.get("journal"), str) and journal and not journal.startswith("~"):
        anchored["journal"] = str(Path(folder, journal))
    if isinstance(study := anchored.get("study"), dict):
        anchored["study"] = study_paths(folder, study)
    if isinstance(dataset := anchored.get("dataset"), dict):
        anchored["dataset"] = dataset_paths(folder, dataset)
    return anchored
