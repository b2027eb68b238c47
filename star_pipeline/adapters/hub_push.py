"""Exported files as a data set repository on the Hugging Face hub (``HF_ENDPOINT``), private unless it is asked to be public."""

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from star_pipeline.core.errors import ConfigError, LakeError, in_short

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_REMEDY = {
    401: "its token is not known there; set HF_TOKEN to one that has not expired",
    403: "the token may not write there; take one with write access to this owner, or another owner",
}


@dataclass(frozen=True)
class Pushed:
    """``changed``: whether a commit was made, or all files were there already."""

    url: str
    private: bool
    changed: bool


def checked_token(repo: str) -> str:
    """The token to push with. Raises ConfigError for a name that no repository has, or where there is no token."""
    import huggingface_hub as hub

    if not _NAME.fullmatch(repo):
        raise ConfigError(f"--push {repo!r}: expected OWNER/NAME, such as my-team/my-data-set")
    if not (token := os.environ.get("HF_TOKEN") or hub.get_token()):
        raise ConfigError(f"--push {repo}: no token; set HF_TOKEN to one of the hub's access tokens, with write access")
    return token


def push(repo: str, token: str, files: Mapping[str, Path | bytes], public: bool, message: str) -> Pushed:
    """One commit that makes ``files`` (name in the repository -> file or content) its newest; others that are there stay.

    What is there already, to the byte, is not sent again; where all is, no commit is made. Raises ConfigError where the repository is
    public and that was not asked for, LakeError where the hub refuses or does not answer.
    """
    import huggingface_hub as hub

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # what is unchanged is said by the caller
    endpoint = os.environ.get("HF_ENDPOINT") or hub.constants.ENDPOINT
    api = hub.HfApi(endpoint=endpoint, token=token, library_name="star-pipeline")
    try:
        url = str(api.create_repo(repo, repo_type="dataset", private=not public, exist_ok=True))
        before = api.repo_info(repo, repo_type="dataset")
        if not before.private and not public:
            raise ConfigError(
                f"--push {repo}: it is there already, and public; nothing was sent. Add --public, make it private on the hub, or push "
                "to another name"
            )
        operations = [
            hub.CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
            for name, content in sorted(files.items())
        ]
        made = api.create_commit(repo, operations, commit_message=message, repo_type="dataset")
    except ConfigError:
        raise
    except Exception as error:  # whatever hub and HTTP library say
        raise LakeError(f"--push {repo}: {_why(error, endpoint)}") from error
    return Pushed(url, bool(before.private), made.oid != before.sha)


def _why(error: Any, endpoint: str) -> str:  # libraries' errors have a response, or none
    import huggingface_hub as hub

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, hub.errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE forbids the network; unset it"
    if status in _REMEDY:
        return f"{endpoint} refused it ({status}): {_REMEDY[status]}"
    if status is None and not isinstance(error, ValueError):
        return (
            f"{endpoint} does not answer ({in_short(error) or type(error).__name__}); expected a network, or HF_ENDPOINT with another "
            "address; run the same command again: what was sent is not sent twice"
        )
    said = getattr(error, "server_message", None) or in_short(error)
    number = f"{status}: " if status else ""
    return f"{endpoint} refused it ({number}{said}); run the same command again: what was sent is not sent twice"
