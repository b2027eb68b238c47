"""The seeds of the browser: chosen over all kinds of rows, with all their candidates, cut to what a page can hold."""

import base64
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from star_pipeline.core.aliases import JsonMapping, JsonObject
from star_pipeline.figures.base import Row
from star_pipeline.report.read import Inspection

CLIP = 20_000
"""Characters of the longest text that is shown whole."""
_CLIPS = (CLIP, 8_000, 3_000, 1_000, 300)
_MOST = 16_000_000
_OF_CANDIDATE = (
    *("pair_id", "slot", "origin", "probability", "status", "error", "selected", "selection", "why", "rank"),
    *("ifd_small", "ifd_large", "gap", "gap_calibrated", "pi_dual", "pi_llm", "pi"),
    *(
        "verdict",
        "margin",
        "flipped",
        "verdict_first",
        "verdict_swapped",
        "reply_first",
        "reply_swapped",
        "judge_error",
    ),
)


@dataclass(frozen=True)
class Samples:
    """The sampled seeds as records, each with its ``candidates``; texts longer than ``clip`` characters are cut."""

    seeds: Sequence[JsonMapping]
    clip: int

    def packed(self) -> str:
        """As base64 of gzipped JSON; the same seeds give the same text."""
        told = json.dumps(self.seeds, ensure_ascii=False, separators=(",", ":"))
        return base64.b64encode(gzip.compress(told.encode(), mtime=0)).decode()


def read_samples(inspection: Inspection, count: int) -> Samples:
    """At most ``count`` live seeds, so that every pair, domain, verdict, selection and source is there, the extremes of π too."""
    inspection.choose(count)
    candidates: dict[str, list[Row]] = {}
    for row in inspection.rows("sampled_candidates"):
        candidates.setdefault(row["seed_id"], []).append(row)
    records = [_record(seed, candidates.get(seed["seed_id"], [])) for seed in inspection.rows("sampled_seeds")]
    lengths = [length for record in records for length in _lengths(record)]
    clip = next((clip for clip in _CLIPS if sum(min(length, clip) for length in lengths) <= _MOST), _CLIPS[-1])
    return Samples([_clipped(record, clip) for record in records], clip)


def _record(seed: Row, candidates: Sequence[Row]) -> JsonObject:
    """A seed as the page takes it; a candidate's instruction is left out where it is the seed's."""
    made = [
        {
            **{key: _brief(row[key]) for key in _OF_CANDIDATE if row[key] is not None},
            **({"instruction": row["instruction"]} if row["instruction"] not in (None, seed["instruction"]) else {}),
            **({"response": row["response"]} if row["response"] is not None else {}),
        }
        for row in candidates
    ]
    history = [{"role": turn["role"], "content": turn["content"]} for turn in seed["history"] or ()]
    told = {key: value for key, value in seed.items() if value is not None and key != "history"}
    return {**told, **({"history": history} if history else {}), "candidates": made}


def _brief(value: object) -> object:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _lengths(value: object) -> list[int]:
    if isinstance(value, str):
        return [len(value)]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [length for part in parts for length in _lengths(part)]


def _clipped(value: Any, clip: int) -> Any:
    """A JSON value (Any: of the kind that was given) with each text cut at ``clip`` characters, saying how many are left out."""
    if isinstance(value, str):
        return value if len(value) <= clip else f"{value[:clip]}… [{len(value) - clip:,} more characters]"
    if isinstance(value, dict):
        return {key: _clipped(part, clip) for key, part in value.items()}
    return [_clipped(part, clip) for part in value] if isinstance(value, list) else value
