"""Which weights a lake's scores come from: one model's in all shards, unless it is asked to score again."""

import json
from collections.abc import Collection, Mapping

import pyarrow.parquet as pq

from star_pipeline.adapters.lake import Lake, write_whole
from star_pipeline.core.aliases import JsonMapping, JsonObject
from star_pipeline.core.errors import LakeError, ModelError
from star_pipeline.core.ports import Progress
from star_pipeline.core.tables import IFD_SCORES

METADATA = "scored_with"
"""In the metadata of ``ifd_scores``: model → what its weights are, as JSON."""
RESCORE_TAG = "star/rescore"
"""On a run of Dagster: scores of other weights are to be replaced."""
Weights = Mapping[str, str]
"""A model's name in the configuration → what its weights are (see ``scoring.weights``)."""


def settle_weights(lake: Lake, present: Weights, asked: Collection[str], progress: Progress) -> None:
    """Take ``present`` for the lake's weights. Raises ModelError where shards that are not ``asked`` to be scored again have others.

    Scores made before weights were recorded count as made with those that the model has now, which is said.
    """
    note = _read(lake)
    recorded, underway = dict(note.get("weights", {})), bool(note.get("rescoring"))
    changed = {model: now for model, now in present.items() if recorded.get(model) != now}
    if not changed and not underway:
        return
    others, silent = _other_shards(lake, present, recorded)
    if left := sorted(set(others) - set(asked)):
        raise ModelError(conflict(others, left, present))
    if silent and any(model not in recorded for model in changed):
        progress.note(
            f"{silent:,} shards were scored before weights were recorded; taken to be of what the models are now: {_listed(changed)}"
        )
    settled = {name: value for name, value in note.items() if name not in ("weights", "rescoring")}
    settled |= {"weights": recorded, "rescoring": True} if others else {"weights": {**recorded, **present}}
    write_whole(lake.numerics, json.dumps(settled).encode())


def conflict(others: Mapping[str, tuple[str, str]], shards: Collection[str], present: Weights) -> str:
    """The one line: which shards were scored with what, what the model is now, and what to do."""
    first = min(shards)
    model, then = others[first]
    which = first if len(shards) == 1 else f"{len(shards):,} shards, the first {first},"
    return (
        f"scoring model {model!r} has changed: {which} scored with {then}, and it is now {present[model]}; scores under both cannot be "
        "compared: bring the old weights back, or score all again with star-pipeline run --rescore all (in Dagster the job rescore)"
    )


def changed_since(lake: Lake, present: Weights) -> str:
    """What ``conflict`` says where the lake has scores of other weights than ``present``; empty where it has none."""
    others, _ = _other_shards(lake, present, _read(lake).get("weights", {}))
    return conflict(others, others, present) if others else ""


def _other_shards(lake: Lake, present: Weights, recorded: Weights) -> tuple[dict[str, tuple[str, str]], int]:
    """shard → (model, its weights then) where those differ from ``present``; and how many shards say no weights."""
    others: dict[str, tuple[str, str]] = {}
    silent = 0
    for shard in lake.shards_of(IFD_SCORES):
        said, models = _said(lake, shard)
        used = (said.keys() or models) & present.keys()
        silent += not said and bool(used)
        for model in sorted(used):
            then = said.get(model) or recorded.get(model)
            if then is not None and then != present[model]:
                others[shard] = (model, then)
    return others, silent


def _said(lake: Lake, shard: str) -> tuple[Weights, set[str]]:
    """What a shard's scores say they were made with, and the models that its configuration names."""
    try:
        with lake.table(IFD_SCORES, shard).open("rb") as file:
            metadata = pq.read_schema(file).metadata or {}
    except (OSError, ValueError):  # a broken table is told of where it is read
        return {}, set()
    scoring = json.loads(metadata.get(b"config_settings", b"{}")).get("scoring", {})
    models = {_name(scoring[size]) for size in ("small", "large") if size in scoring}
    return json.loads(metadata.get(METADATA.encode(), b"{}")), models


def _name(model: str | JsonMapping) -> str:
    if isinstance(model, str):
        return model
    return f"{model['model']}@{model['api_base']}" if "api_base" in model else str(model["model"])


def _read(lake: Lake) -> JsonObject:
    try:
        return dict(json.loads(lake.numerics.read_text("utf-8"))) if lake.numerics.exists() else {}
    except (OSError, ValueError) as error:
        raise LakeError(
            f"{lake.numerics} cannot be read ({error}); remove it, and the next run settles it anew"
        ) from error


def _listed(weights: Weights) -> str:
    return ", ".join(f"{model} {now}" for model, now in weights.items())
