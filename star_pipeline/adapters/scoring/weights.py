"""What a scoring model is made of, named by its content: its name alone says nothing once a folder's files were replaced."""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from upath import UPath

from star_pipeline.adapters.hub import only_from_here
from star_pipeline.adapters.lake import write_whole
from star_pipeline.adapters.model_errors import check_folder, unloadable
from star_pipeline.adapters.weight_files import model_folder, weight_files
from star_pipeline.config.scoring import ServedModel
from star_pipeline.core.aliases import JsonMapping
from star_pipeline.core.errors import LakeError, ModelError
from star_pipeline.core.ports import Progress

_BESIDE = (
    "config.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "*.tiktoken",
    "chat_template*",
)
_SAYS_NOTHING = {"transformers_version", "_name_or_path", "name_or_path"}
"""What saving a model again changes in its JSON files, and no number depends on."""
_LARGE = 1 << 30
_YOUNG_S = 2.0
"""A file that was changed so shortly ago may change again without its time of change telling."""


def weights_of(source: str, template: str, progress: Progress | None = None, with_weights: bool = True) -> str:
    """Names what is loaded for ``source``: ``sha256:…`` of a folder's files, or ``commit:…`` of what the hub holds.

    The names of files and folders, and a chat template that is not used, have no part in it. A large file is read once: its digest
    is kept by its size, times and inode. Raises ModelError where the model is not there.
    """
    check_folder(source)
    folder = Path(source)
    if not folder.is_dir():
        return f"commit:{_commit(source)}"
    chat = template == "chat"
    found = hashlib.sha256()
    beside = {path for pattern in _BESIDE for path in folder.glob(pattern) if path.is_file()}
    with _Kept() as kept:
        for path in [*sorted(beside), *(weight_files(folder) if with_weights else [])]:
            if path.name.startswith("chat_template") and not chat:
                continue
            plain = _plain_json(path, chat) if path in beside and path.suffix == ".json" else None
            if plain is None and progress and path.is_file() and path.stat().st_size > _LARGE and not kept.has(path):
                progress.note(f"reading {path} once ({path.stat().st_size / 1e9:.1f} GB), to know its content again")
            digest = hashlib.sha256(plain).hexdigest() if plain is not None else kept.digest(path)
            found.update(f"{path.name}:{digest}\n".encode())
    return f"sha256:{found.hexdigest()[:20]}"


def served_weights(served: ServedModel, told: JsonMapping, template: str) -> str:
    """What can be known of a model on a server: what its list of models says, and the tokenizer here. Weights replaced under the
    same name and root are not seen."""
    said = {name: told[name] for name in ("id", "root", "parent") if told.get(name)}
    named = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:20]
    return f"server:{named}, tokenizer {weights_of(served.tokenizer_source, template, with_weights=False)}"


def _commit(name: str) -> str:
    import transformers

    try:
        # asks the hub, where it answers, which commit is the newest, and keeps the answer
        transformers.AutoConfig.from_pretrained(name, local_files_only=only_from_here(name))
        folder = model_folder(name)
        if folder is None:
            raise ModelError(
                f"scoring model {name!r}: its configuration was read and is not in the hub's cache (HF_HOME)"
            )
        return folder.name
    except Exception as error:  # whatever transformers says to a name that it cannot find
        raise unloadable(name, error) from error


def _plain_json(path: Path, chat: bool) -> bytes | None:
    """A small JSON file's content without what says nothing; None for any other file."""
    if path.name not in ("config.json", "tokenizer_config.json"):
        return None
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict):
        return None
    left_out = _SAYS_NOTHING if chat else _SAYS_NOTHING | {"chat_template"}
    return json.dumps({key: content[key] for key in sorted(content) if key not in left_out}, sort_keys=True).encode()


class _Kept:
    """Digests of files, kept in the user's cache folder between processes. Where it cannot be written, files are read again."""

    def __init__(self) -> None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        self._file = cache / "star-pipeline" / "file_digests.json"
        self._known: dict[str, str] = {}
        self._new: dict[str, str] = {}

    def __enter__(self) -> "_Kept":
        with contextlib.suppress(OSError, ValueError):
            self._known = dict(json.loads(self._file.read_text("utf-8")))
        return self

    def __exit__(self, *_: object) -> None:
        if self._new:
            with contextlib.suppress(LakeError):
                write_whole(UPath(self._file), json.dumps(dict(_latest({**self._known, **self._new}))).encode())

    def has(self, path: Path) -> bool:
        return _signature(path) in self._known

    def digest(self, path: Path) -> str:
        try:
            before = _signature(path)
            if before in self._known:
                return self._known[before]
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            seen = path.stat()
        except OSError as error:
            raise unloadable(str(path.parent), error) from error
        if _signature(path) == before and time.time() - max(seen.st_ctime, seen.st_mtime) > _YOUNG_S:
            self._known[before] = self._new[before] = found
        return found


def _signature(path: Path) -> str:
    seen = path.stat()
    return f"{seen.st_dev}-{seen.st_ino}-{seen.st_size}-{seen.st_mtime_ns}-{seen.st_ctime_ns}"


def _latest(digests: Mapping[str, str], most: int = 4096) -> Iterator[tuple[str, str]]:
    yield from list(digests.items())[-most:]
