"""Eq. 4's losses: under a Hugging Face model in this process or on a Ray cluster, or under one that an OpenAI-compatible server holds."""

from pathlib import Path
from typing import Any

from upath import UPath

from star_pipeline.adapters.lake import Lake
from star_pipeline.config.scoring import AnyModel, ScoringConfig, ServedModel
from star_pipeline.core.equations.ifd_templates import Start, Template
from star_pipeline.core.errors import ModelError
from star_pipeline.core.ports import Progress, Scorer

_OVERHEAD = 40_000_000
"""Bytes of weights whose products take as long as what every model does besides."""


def open_scorer(
    model: AnyModel,
    scoring: ScoringConfig,
    lake: Lake,
    progress: Progress,
    numerics_record: UPath | None = None,
) -> Scorer:
    """The scorer for a model: a Hugging Face id, a folder, one of the offline profile's own, or one on a server.

    ``numerics_record`` is the file that keeps what decides the last digits; the lake's own unless it is given.
    """
    template = scoring.template_of(model)
    if isinstance(model, ServedModel):
        from star_pipeline.adapters.scoring.served import ServedScorer

        return ServedScorer(model, template, scoring.max_length, progress, start=scoring.start)
    from star_pipeline.adapters.scoring.weights import weights_of

    source = model_source(str(model), lake, progress)
    weights = weights_of(source, template, progress)
    record = numerics_record or lake.numerics
    return scorer_of(source, scoring, record, progress, template=template, start=scoring.start, weights=weights)


def scorer_of(
    source: str,
    scoring: ScoringConfig,
    record: UPath,
    progress: Progress,
    *,
    template: Template,
    start: Start,
    weights: str,
    alone: bool = True,
) -> Scorer:
    """The scorer for an id or a folder, here or on a Ray cluster, whichever ``scoring.engine`` says; ``record`` keeps the numerics."""
    rest: dict[str, Any] = {
        "batch_tokens": scoring.batch_tokens,
        "keep": scoring.keep_loaded,
        "progress": progress,
        "weights": weights,
    }
    if scoring.engine == "ray":
        from star_pipeline.adapters.scoring.replicas.scorer import RayScorer, settled_for_replicas

        settled = settled_for_replicas(record, scoring)
        return RayScorer(
            source, settled, template, scoring.max_length,
            settings=scoring.ray, record=record, start=start, alone=alone, **rest,
        )  # fmt: skip
    from star_pipeline.adapters.scoring.local import LocalScorer
    from star_pipeline.adapters.scoring.numerics import devices, settled_in

    numerics = settled_in(record, scoring.dtype, scoring.device, compiled=scoring.compile_layers)
    on = devices(scoring.device, numerics)
    return LocalScorer(source, numerics, template, scoring.max_length, devices=on, start=start, alone=alone, **rest)


def present_weights(scoring: ScoringConfig, lake: Lake, progress: Progress) -> dict[str, str]:
    """What both models are now, by their names in the configuration; without those of the offline profile that are not trained yet."""
    from star_pipeline.adapters.offline.models import trained_models
    from star_pipeline.adapters.scoring.served import ServedScorer
    from star_pipeline.adapters.scoring.weights import weights_of

    found = {}
    for model in scoring.models:
        name, template = str(model), scoring.template_of(model)
        if isinstance(model, ServedModel):
            found[name] = ServedScorer(model, template, scoring.max_length, progress).weights
        else:
            source = trained_models(Path(lake.local(lake.models))).get(name) if name.startswith("offline/") else name
            if source:
                found[name] = weights_of(str(source), template, progress)
    return {name: weights for name, weights in found.items() if weights}


def model_source(name: str, lake: Lake, progress: Progress) -> str:
    """What to load for ``name``: itself, or the folder of an offline model, which is trained first if it is not there."""
    if not name.startswith("offline/"):
        return name
    from star_pipeline.adapters.offline.models import ensure_models

    trained = ensure_models(Path(lake.local(lake.models)), progress.note)
    if name not in trained:
        raise ModelError(f"scoring model {name!r}: the offline profile has {', '.join(trained)}")
    return str(trained[name])


def relative_cost(scoring: ScoringConfig, lake: Lake, progress: Progress) -> float:
    """About how many times as long the large model takes as the small one, by their parameters; 1 where a server has one."""
    from star_pipeline.adapters.scoring.causal_lm import weight_bytes

    if any(isinstance(model, ServedModel) for model in scoring.models):
        return 1.0
    sources = [model_source(str(model), lake, progress) for model in scoring.models]
    small, large = (weight_bytes(source, "float32") + _OVERHEAD for source in sources)
    return large / small
