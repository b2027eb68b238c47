"""Eq. 4's losses: under a Hugging Face model in this process, or under one that an OpenAI-compatible server holds."""

from pathlib import Path

from star_pipeline.adapters.lake import Lake
from star_pipeline.config.models import ScoringConfig, ServedModel
from star_pipeline.core.errors import ModelError
from star_pipeline.core.ports import Progress, Scorer


def open_scorer(model: str | ServedModel, scoring: ScoringConfig, lake: Lake, progress: Progress) -> Scorer:
    """The scorer for a model: a Hugging Face id, a folder, one of the offline profile's own, or one on a server."""
    if isinstance(model, ServedModel):
        from star_pipeline.adapters.scoring.served import ServedScorer

        return ServedScorer(model, scoring.template, scoring.max_length, progress)
    from star_pipeline.adapters.scoring.local import LocalScorer
    from star_pipeline.adapters.scoring.numerics import devices, settled_in

    source = model_source(model, lake, progress)
    numerics = settled_in(lake, scoring.dtype, scoring.device)
    return LocalScorer(
        source,
        numerics,
        scoring.template,
        scoring.max_length,
        devices=devices(scoring.device, numerics),
        batch_tokens=scoring.batch_tokens,
        keep=scoring.keep_loaded,
        progress=progress,
    )


def model_source(name: str, lake: Lake, progress: Progress) -> str:
    """What to load for ``name``: itself, or the folder of an offline model, which is trained first if it is not there."""
    if not name.startswith("offline/"):
        return name
    from star_pipeline.adapters.offline.models import ensure_models

    trained = ensure_models(Path(lake.local(lake.models)), progress.note)
    if name not in trained:
        raise ModelError(f"scoring model {name!r}: the offline profile has {', '.join(trained)}")
    return str(trained[name])
