"""What is said of a scoring model that cannot be had."""

from pathlib import Path

from star_pipeline.core.errors import ModelError, in_short


def unloadable(name: str, error: Exception) -> ModelError:
    """The one line for whatever a library raised while it read a scoring model's files."""
    if isinstance(error, ModelError):
        return error
    kind = "" if isinstance(error, OSError | ValueError | ImportError) else f"{type(error).__name__}: "
    return ModelError(
        f"scoring model {name!r} cannot be loaded: {kind}{in_short(error)}; expected a Hugging Face id, or the folder of a causal LM"
    )


def check_folder(name: str) -> None:
    """Raises ModelError for what is plainly a path, and nothing is there."""
    if name.startswith(("/", ".", "~")) and not Path(name).expanduser().is_dir():
        raise ModelError(
            f"scoring model {name!r}: no such folder; expected a Hugging Face id, or the folder of a causal LM"
        )
