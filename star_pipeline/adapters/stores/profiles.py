"""What a profile of ``~/.aws`` says of S3: keys, region and endpoint, as the AWS command line reads them; nothing else of it is read."""

import configparser
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from star_pipeline.core.errors import ConfigError

_KEYS = {
    "aws_access_key_id": "AWS_ACCESS_KEY_ID",
    "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY",
    "aws_session_token": "AWS_SESSION_TOKEN",
}
_PLACES = {"region": "AWS_REGION", "endpoint_url": "AWS_ENDPOINT_URL"}
_ELSEWHERE = (
    "role_arn",
    "sso_session",
    "sso_start_url",
    "credential_process",
    "web_identity_token_file",
    "login_session",
)
"""What says that the keys have to be asked for somewhere."""


class Said(NamedTuple):
    """A value, and the ``name`` of what says it: a variable, or a line of a profile."""

    name: str
    value: str


def profile_of(environment: Mapping[str, str], keys: bool = True) -> dict[str, Said]:
    """Variable -> what the profile says in its place: that of AWS_PROFILE, else ``default``, where there is one.

    Without ``keys`` the variables have them, and the profile's do not count. Raises ConfigError for a profile that is not there, that
    cannot be read, or that gets its keys in a way that is not known here.
    """
    wanted = environment.get("AWS_PROFILE", "").strip()
    name = wanted or "default"
    files = _files(environment)
    found: dict[str, Said] = {}
    there = False
    for path, is_config in files.items():
        sections = _sections(path)
        section = sections.get(f"profile {name}" if is_config and name != "default" else name)
        if section is None and is_config and name == "default":
            section = sections.get("profile default")
        if section is None:
            continue
        there = True
        for key, value in section.items():
            # the file of the credentials comes first, and its keys with it
            found.setdefault(key, Said(f"{key} of the profile {name} in {path}", value))
    if wanted and not there:
        listed = sorted({_named(section) for path in files for section in _sections(path)} - {""})
        raise ConfigError(
            f"AWS_PROFILE={wanted}: no such profile in {' or '.join(map(str, files)) or '~/.aws'}; expected "
            f"{'one of ' + ', '.join(listed) if listed else 'a file with profiles'}, or leave the variable out"
        )
    if keys and (asked := next((key for key in _ELSEWHERE if key in found), None)):
        raise ConfigError(
            f"{found[asked].name}: of a profile, keys, region and endpoint_url are read, and no other way to get keys (SSO, roles, "
            f'processes); set them: eval "$(aws configure export-credentials --profile {name} --format env)"'
        )
    if "services" in found and "endpoint_url" not in found:
        raise ConfigError(
            f"{found['services'].name}: endpoints of single services are not read; name it in endpoint_url there, or in AWS_ENDPOINT_URL_S3"
        )
    one, other = list(_KEYS)[:2]
    for present, lacking in ((one, other), (other, one)):
        if keys and present in found and lacking not in found:
            raise ConfigError(f"{found[present].name} is there, and {lacking} is not; add it, or remove both")
    read = (_KEYS if keys else {}) | _PLACES
    return {variable: found[key] for key, variable in read.items() if key in found}


def _files(environment: Mapping[str, str]) -> dict[Path, bool]:
    """The files that are there, those with credentials first, each with whether its sections are called ``profile x``."""
    home = environment.get("HOME") or environment.get("USERPROFILE") or ""
    named = {
        environment.get("AWS_SHARED_CREDENTIALS_FILE") or (home and f"{home}/.aws/credentials"): False,
        environment.get("AWS_CONFIG_FILE") or (home and f"{home}/.aws/config"): True,
    }
    return {path: kind for name, kind in named.items() if name and (path := Path(name).expanduser()).is_file()}


def _sections(path: Path) -> Mapping[str, Mapping[str, str]]:
    """Raises ConfigError."""
    seen = path.stat()
    return _parsed(path, (seen.st_mtime_ns, seen.st_size))


@functools.lru_cache(maxsize=8)
def _parsed(path: Path, _: tuple[int, int]) -> Mapping[str, Mapping[str, str]]:
    """Kept while the file is the same: each look at an object asks."""
    parser = configparser.RawConfigParser(default_section="", strict=False)
    try:
        parser.read_string(path.read_text("utf-8"), str(path))
    except (configparser.Error, UnicodeDecodeError) as error:
        # not what it says: it quotes the line, which may hold a key
        line = f", line {error.lineno}" if isinstance(error, configparser.MissingSectionHeaderError) else ""
        raise ConfigError(
            f"{path}{line}: cannot be read as profiles ({type(error).__name__}); expected [name] and lines such as region = us-east-1"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); mend its permissions, or name another one"
        ) from error
    return {" ".join(name.split()): _said(parser[name]) for name in parser.sections()}


def _said(section: Mapping[str, str]) -> dict[str, str]:
    return {key: value.strip() for key, value in section.items() if value.strip()}


def _named(section: str) -> str:
    """The profile that a section is of; empty where it is of none."""
    kind, _, name = section.partition(" ")
    return name.strip("\"'") if kind == "profile" else "" if name else section
