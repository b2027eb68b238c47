"""Reads a configuration: a shipped profile by its name, or a YAML file by its path."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from star_pipeline.config.addresses import holds_credentials
from star_pipeline.config.models import StarConfig
from star_pipeline.core.errors import ConfigError

_PROFILES = resources.files("star_pipeline") / "profiles"


class _UniqueKeys(yaml.SafeLoader):
    """YAML lets a later key replace an earlier one of the same name in silence; here it is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def profile_names() -> list[str]:
    return sorted(entry.name.removesuffix(".yaml") for entry in _PROFILES.iterdir() if entry.name.endswith(".yaml"))


def load_config(name_or_path: str, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> StarConfig:
    """The validated configuration; ``overrides`` replaces fields of its sections, as options of a command do.

    Raises ConfigError, naming file, field, what was expected and the remedy.
    """
    path = Path(name_or_path)
    if name_or_path in profile_names():
        where, text, folder = f"profile {name_or_path}", (_PROFILES / f"{name_or_path}.yaml").read_text("utf-8"), Path()
    elif path.is_file():
        where, folder = str(path), path.parent
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError(f"{where}: not UTF-8 at byte {error.start}; save it as UTF-8") from error
    else:
        raise ConfigError(
            f"no configuration {name_or_path!r}; expected a YAML file or one of: {', '.join(profile_names())}"
        )
    try:
        raw = yaml.load(text, Loader=_UniqueKeys)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).replace('in "<unicode string>", ', "at ").split())
        raise ConfigError(f"{where}: no valid YAML: {reason}") from error
    if raw is None:
        raise ConfigError(f"{where}: empty, expected agents, pairs, scoring and judge; copy a profile to begin with")
    if not isinstance(raw, dict):
        raise ConfigError(f"{where}: a {type(raw).__name__}, expected a mapping with agents, pairs, scoring and judge")
    for section, fields in (overrides or {}).items():
        raw[section] = {**(raw.get(section) or {}), **fields}
    files: dict[str, str] = {}
    if isinstance(raw.get("prompts"), dict):
        files = {str(name): str(folder / str(file)) for name, file in raw["prompts"].items()}
        raw["prompts"] = {name: _prompt_text(where, name, folder, file) for name, file in raw["prompts"].items()}
    if isinstance(raw.get("journal"), str) and raw["journal"]:
        raw["journal"] = str((folder / Path(raw["journal"]).expanduser()).resolve())
    try:
        settings = StarConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_in_one_line(error)}") from error
    settings._prompt_files.update(files)
    return settings


def _prompt_text(where: str, name: str, folder: Path, file: Any) -> str:
    path = folder / str(file)
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{where}, prompts.{name}: cannot read {path}: {error}; expected a Jinja file in UTF-8"
        ) from error


def _in_one_line(error: ValidationError) -> str:
    return "; ".join(_one(dict(problem)) for problem in error.errors())


def _one(problem: dict[str, Any]) -> str:
    # what stands in brackets is pydantic's: [key], and the forms that a setting can have
    field = ".".join(part for part in map(str, problem["loc"]) if not part.startswith("["))
    if problem["type"] == "value_error":
        message = str(problem["ctx"]["error"])
    elif problem["type"] == "extra_forbidden":
        message = "no such setting; check the spelling, or remove it"
    elif problem["type"] == "missing":
        message = "missing, and it has no default"
    else:
        given = problem.get("input")
        plain = isinstance(given, str | int | float | bool | None) and not holds_credentials(str(given))
        shown = f" (given: {given!r:.60})" if plain else ""
        message = str(problem["msg"]).replace("Input should", "should") + shown
    return f"{field}: {message}" if field else message
