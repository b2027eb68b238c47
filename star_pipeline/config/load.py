"""Reads a configuration: a shipped profile by its name, or a YAML file by its path."""

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from star_pipeline.config.addresses import holds_credentials
from star_pipeline.config.models import StarConfig
from star_pipeline.core.aliases import JsonMapping, JsonObject
from star_pipeline.core.errors import ConfigError

_PROFILES = resources.files("star_pipeline") / "profiles"


class _UniqueKeys(yaml.SafeLoader):
    """YAML lets a later key replace an earlier one of the same name in silence; here it is an error.

    Looked at before merge keys (``<<: *base``) are filled in, since what stands beside one is there to replace what it brings.
    """

    # Any: types-PyYAML says that an anchor is a dictionary, and PyYAML gives its name
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                what = "braces {" if isinstance(key, yaml.MappingNode) else "brackets ["
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f"{what} where the name of a setting is expected; quote a text that begins so, "
                    "and fill in placeholders such as {{ NAME }} before",
                    key.start_mark,
                )
            if (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is there twice", key.start_mark
                )
            seen.add((key.tag, key.value))
        return node


def profile_names() -> list[str]:
    return sorted(entry.name.removesuffix(".yaml") for entry in _PROFILES.iterdir() if entry.name.endswith(".yaml"))


def load_config(source: str | JsonMapping, overrides: Mapping[str, JsonMapping] | None = None) -> StarConfig:
    """The validated configuration of a profile, a YAML file, or settings as a mapping.

    ``overrides`` replaces fields of its sections, as options of a command do.

    Raises ConfigError, naming file, field, what was expected and the remedy.
    """
    if not isinstance(source, str):
        return _validated("configuration", dict(source), Path(), overrides)
    path = Path(source)
    if source in profile_names():
        where, text, folder = f"profile {source}", (_PROFILES / f"{source}.yaml").read_text("utf-8"), Path()
    elif path.is_file():
        where, folder = str(path), path.parent
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError(f"{where}: not UTF-8 at byte {error.start}; save it as UTF-8") from error
        except OSError as error:
            raise ConfigError(f"{where}: cannot be read: {error.strerror}; mend its permissions") from error
    else:
        raise ConfigError(f"no configuration {source!r}; expected a YAML file or one of: {', '.join(profile_names())}")
    raw = _parsed(where, text)
    if raw is None:
        raise ConfigError(f"{where}: empty, expected agents, pairs, scoring and judge; copy a profile to begin with")
    if not isinstance(raw, dict):
        raise ConfigError(f"{where}: a {type(raw).__name__}, expected a mapping with agents, pairs, scoring and judge")
    return _validated(where, raw, folder, overrides)


def _validated(where: str, raw: JsonObject, folder: Path, overrides: Mapping[str, JsonMapping] | None) -> StarConfig:
    """``folder`` is what relative paths start from."""
    for section, fields in (overrides or {}).items():
        given = raw.get(section)
        if given is None or isinstance(given, dict):
            raw[section] = {**(given or {}), **fields}
    files: dict[str, str] = {}
    if isinstance(raw.get("prompts"), dict):
        files = {str(name): str(folder / str(file)) for name, file in raw["prompts"].items()}
        raw["prompts"] = {name: _prompt_text(where, name, folder, file) for name, file in raw["prompts"].items()}
    if isinstance(raw.get("journal"), str) and raw["journal"]:
        raw["journal"] = _journal_path(where, folder, raw["journal"])
    if isinstance(raw.get("study"), dict):
        raw["study"] = study_paths(folder, raw["study"])
    if isinstance(raw.get("dataset"), dict):
        raw["dataset"] = dataset_paths(folder, raw["dataset"])
    try:
        settings = StarConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_in_one_line(error)}") from error
    settings._prompt_files.update(files)
    return settings


def _parsed(where: str, text: str) -> Any:  # whatever YAML can say; who asks looks at it
    try:
        raw = yaml.load(text, Loader=_UniqueKeys)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).replace('in "<unicode string>", ', "at ").split())
    except RecursionError:
        reason = "nested too deeply"
    except (ValueError, AttributeError) as error:  # the day 2026-13-45, a number of thousands of digits, !!timestamp x
        reason = f"a value that looks like a date or a number, and is none ({error}); quote it if it is a text"
    else:
        try:
            json.dumps(raw, default=str, skipkeys=True)
            return raw
        except (ValueError, RecursionError):
            reason = "an alias (*name) stands within what it names"
    raise ConfigError(f"{where}: no valid YAML: {reason}")


def _journal_path(where: str, folder: Path, journal: str) -> str:
    try:
        return str((folder / Path(journal).expanduser()).resolve())
    except (RuntimeError, ValueError, OSError) as error:  # a user's folder that nobody has, a NUL, links in a circle
        raise ConfigError(f"{where}, journal: {journal!r} is no path: {error}; expected a folder") from error


def dataset_paths(folder: Path, dataset: JsonObject) -> JsonObject:
    """The files of questions from ``folder`` on, as in ``study_paths``."""
    return {name: _placed(folder, value) if name == "decontaminate" else value for name, value in dataset.items()}


def _placed(folder: Path, value: Any) -> Any:  # whatever YAML can say; pydantic looks at it afterwards
    if isinstance(value, list):
        return [_placed(folder, inner) for inner in value]
    if not isinstance(value, str) or not value or "://" in value:
        return value
    try:
        # a copy of a shipped profile finds the files that ship with it
        places = (folder / Path(value).expanduser(), Path(str(_PROFILES / value)))
        return next((str(path.resolve()) for path in places if path.exists()), value)
    except (RuntimeError, ValueError, OSError):  # as in _journal_path; reading it says what is wrong
        return value


def study_paths(folder: Path, study: JsonObject) -> JsonObject:
    """The study's files and lakes from ``folder`` on; a file that is not there stays as it is named, since it may be a hub's name."""

    def files(section: Any, fields: tuple[str, ...]) -> Any:
        return (
            {name: _placed(folder, value) if name in fields else value for name, value in section.items()}
            if isinstance(section, dict)
            else section
        )

    if isinstance(lakes := study.get("lakes"), dict):
        study = study | {
            "lakes": {
                name: str(folder.absolute() / root) if isinstance(root, str) and root and "://" not in root else root
                for name, root in lakes.items()
            }
        }
    if isinstance(evaluate := study.get("evaluate"), dict):
        inner = {name: files(part, ("questions", "include_path")) for name, part in evaluate.items()}
        study = study | {"evaluate": files(inner, ("held_out",))}
    return study


def _prompt_text(where: str, name: str, folder: Path, file: object) -> str:
    path = folder / str(file)
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{where}, prompts.{name}: cannot read {path}: {error}; expected a Jinja file in UTF-8"
        ) from error


def _in_one_line(error: ValidationError) -> str:
    return "; ".join(_one(dict(problem)) for problem in error.errors())


def _one(problem: JsonMapping) -> str:
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
