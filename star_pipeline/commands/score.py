"""``star-pipeline score``: Eq. 4 for every record of a file, kept as it comes, so that an interrupted one goes on."""

import hashlib
import json
import os
import shutil
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import filelock
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from upath import UPath

from star_pipeline.adapters.lake import Lake, arrow_table, write_whole
from star_pipeline.adapters.preflight import check_scoring_models
from star_pipeline.adapters.progress import NotesOnly, in_words
from star_pipeline.adapters.record_files import ending_of
from star_pipeline.adapters.scoring import model_source, open_scorer, present_weights, relative_cost
from star_pipeline.adapters.seed_files import FORMATS, read_seeds
from star_pipeline.adapters.stores.paths import path_at
from star_pipeline.config import StarConfig
from star_pipeline.config.scoring import BEFORE, ScoringConfig, ServedModel
from star_pipeline.core import identity
from star_pipeline.core.aliases import JsonMapping, JsonObject
from star_pipeline.core.equations.calibration import Calibration, ranked_gaps
from star_pipeline.core.equations.ifd import Fit, fit_samples, losses_of, score_rows
from star_pipeline.core.errors import ConfigError, LakeError, ModelError
from star_pipeline.core.ports import Progress, ResponseLoss, Scorer, ScoringSample
from star_pipeline.core.rates import rate
from star_pipeline.core.records import IfdScore, Seed
from star_pipeline.core.tables import IFD_SCORES

_FIRST, _LEAST, _MOST = 32, 8, 8192
_STEP_S = 20.0
"""Seconds of work between two parts on disk, which is what an interruption loses at most."""


@dataclass(frozen=True)
class ScoreOutcome:
    rows: int
    """Records in the output."""
    resumed: int
    """Records that an earlier, interrupted command had scored under the small model."""
    seconds: float
    fresh: bool
    """False where the output was there already, made of the same input with the same settings."""


def score_file(source: str, target: str, config: StarConfig, lake: Lake, progress: Progress) -> ScoreOutcome:
    """Score every record of ``source`` under both models; ``target`` gets ``ifd_scores``' columns, a row a record, in order.

    What is done is kept beside the target (``.NAME.parts``) until the target is whole. Raises ConfigError and SeedError for
    what is wrong with the input before any model is loaded.
    """
    began = time.monotonic()
    if "://" in target:
        raise ConfigError(f"{target}: expected a file on a local disk to write to")
    given, goal = path_at(source), Path(target).absolute()
    _check(given, goal)
    with _held(goal):
        records = _Records(given, source, config)
        told = NotesOnly(progress)
        settings: JsonObject = {"input": _sha256(given), "settings": _settings(config)}
        before = _made_of(goal)
        same = {name: before.get(name) for name in settings} == settings
        if same and _still(goal, before, config, lake, told):
            return ScoreOutcome(records.count, records.count, 0.0, False)
        check_scoring_models(config.scoring)
        models = config.scoring.models
        for model in models:
            if not isinstance(model, ServedModel):
                model_source(str(model), lake, told)  # an offline one is trained first
        settings["weights"] = present_weights(config.scoring, lake, told)
        if same:
            told.note(
                f"{goal.name} was made with other weights ({_changed(before['weights'], settings['weights'])}): scoring anew"
            )
        parts = _Parts(goal.with_name(f".{goal.name}.parts"), settings, told)
        scorers = [open_scorer(model, config.scoring, lake, told, parts.numerics) for model in models]
        later = relative_cost(config.scoring, lake, told)
        resumed = parts.done("small")
        _score(records, parts, "small", scorers, progress, later * records.count)
        _score(records, parts, "large", scorers, progress, 0.0)
        _assemble(records, parts, goal, settings, config.scoring)
    return ScoreOutcome(records.count, resumed, time.monotonic() - began, True)


def print_scores(console: Console, target: str, outcome: ScoreOutcome) -> None:
    """What was scored and what could not be, in a few lines."""
    there = set(pq.read_schema(target).names)  # an output of an earlier version stays as it is
    wanted = ("status", "truncated", "ifd_small", "ifd_large", "gap", "gap_calibrated")
    scores = arrow_table(target, [name for name in wanted if name in there]).to_pandas()
    done = scores[scores.status == "ok"]
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column()
    cut = f", {done.truncated.sum():,} cut to fit" if done.truncated.any() else ""
    facts.add_row("scored", f"{len(done):,} of {len(scores):,} records{cut}")
    for status, count in scores.status[scores.status != "ok"].value_counts().items():
        facts.add_row("", f"{count:,} {status}")
    if len(done):
        facts.add_row("mean IFD", f"{done.ifd_small.mean():.4f} small, {done.ifd_large.mean():.4f} large")
        facts.add_row(
            "gap", f"{done.gap.mean():.4f} in the mean, positive for {rate(int((done.gap > 0).sum()), len(done))}"
        )
        if "gap_calibrated" in done and done.gap_calibrated.notna().any():
            facts.add_row("", f"calibrated, positive for {rate(int((done.gap_calibrated > 0).sum()), len(done))}")
    if not outcome.fresh:
        facts.add_row("time", "nothing to do: the output was made of this input with these settings")
    else:
        again = f", going on after {outcome.resumed:,} records of an earlier command" if outcome.resumed else ""
        facts.add_row("time", f"{in_words(outcome.seconds)}{again}")
    facts.add_row("output", target)
    console.print(facts, highlight=False)


class _Records:
    """The input's records, read anew for every pass over them. Bad ones are None where the configuration leaves them out."""

    def __init__(self, path: UPath, source: str, config: StarConfig) -> None:
        self._path, self._source = path, source
        # one row a record, whatever the configuration makes of the other turns of a conversation
        self._rules = replace(config.seed_rules, turns="last", empty_instructions=True)
        self.count = sum(1 for _ in self.after(0))

    def after(self, first: int) -> Iterator[Seed | None]:
        seeds = read_seeds(self._path, self._source, self._rules)
        for seed in islice(seeds, first, None):
            yield seed if isinstance(seed, Seed) else None


def _score(
    records: _Records, parts: "_Parts", phase: str, scorers: Sequence[Scorer], progress: Progress, later: float
) -> None:
    """One pass over the records from where the parts end."""
    done = parts.done(phase)
    if done == records.count:
        return
    progress.stage(f"scoring under the {phase} model", records.count - done, later)
    seeds, fits_before = records.after(done), parts.fits(done) if phase == "large" else None
    size = _FIRST
    while chunk := list(islice(seeds, size)):
        began = time.monotonic()
        samples = [_sample(seed) for seed in chunk]
        fits = list(islice(fits_before, len(chunk))) if fits_before else fit_samples(samples, *scorers)
        losses = losses_of(samples, fits, scorers[phase == "large"])
        parts.add(phase, done, fits, losses)
        done += len(chunk)
        progress.advance(len(chunk))
        pace = _STEP_S / max(time.monotonic() - began, 1e-3)
        size = min(max(int(size * min(max(pace, 0.25), 4.0)), _LEAST), _MOST)


def _sample(seed: Seed | None) -> ScoringSample | None:
    return ScoringSample(seed.system, seed.history, seed.instruction, seed.response) if seed else None


_PART = pa.schema(
    [
        ("status", pa.string()),
        ("kept_chars", pa.int64()),
        ("n_tokens", pa.int64()),
        ("nll_given", pa.float64()),
        ("nll_alone", pa.float64()),
    ]
)


class _Parts:
    """Losses on disk, some records a file, under each model. A part is there whole or not at all."""

    def __init__(self, folder: Path, settings: JsonMapping, progress: Progress) -> None:
        self._folder = folder
        note = folder / "settings.json"
        before = json.loads(note.read_text("utf-8")) if note.exists() else {}
        given = json.loads(json.dumps(settings))
        if before == given:
            return
        if {**before, "weights": None} == {**given, "weights": None}:
            if "weights" in before:
                changed = _changed(before["weights"], settings["weights"])
                progress.note(f"an interrupted command began with other weights ({changed}): scoring anew")
            else:
                progress.note("going on with what was scored before weights were recorded")
        if "weights" in before or {**before, "weights": given["weights"]} != given:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        write_whole(UPath(note), json.dumps(settings).encode())

    @property
    def numerics(self) -> UPath:
        """Where what decides the last digits is kept, as a lake keeps it."""
        return UPath(self._folder / "numerics.json")

    def done(self, phase: str) -> int:
        files = self._files(phase)
        return int(files[-1].stem.split("-")[2]) if files else 0

    def add(self, phase: str, first: int, fits: Sequence[Fit], losses: Sequence[ResponseLoss | None]) -> None:
        rows = [
            (fit.status, fit.kept_chars, *((loss.n_tokens, loss.nll_given, loss.nll_alone) if loss else (None,) * 3))
            for fit, loss in zip(fits, losses, strict=True)
        ]
        table = pa.table([list(column) for column in zip(*rows, strict=True)], schema=_PART)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        name = f"{phase}-{first:010d}-{first + len(rows):010d}.parquet"
        write_whole(UPath(self._folder / name), sink.getvalue().to_pybytes())

    def rows(self, phase: str, first: int = 0) -> Iterator[tuple[Fit, ResponseLoss | None]]:
        for file in self._files(phase):
            start, end = (int(number) for number in file.stem.split("-")[1:])
            if end > first:
                columns = arrow_table(file).slice(max(0, first - start)).to_pydict()
                for status, chars, *loss in zip(*columns.values(), strict=True):
                    yield Fit(status, chars), ResponseLoss(*loss) if loss[0] is not None else None

    def fits(self, first: int) -> Iterator[Fit]:
        return (fit for fit, _ in self.rows("small", first))

    def remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _files(self, phase: str) -> list[Path]:
        return sorted(self._folder.glob(f"{phase}-*.parquet"))


def _assemble(records: _Records, parts: _Parts, goal: Path, settings: JsonMapping, knobs: ScoringConfig) -> None:
    least = knobs.least_tokens
    ranked = _ranked(parts, least, knobs.calibration)
    schema = IFD_SCORES.schema.with_metadata({"star_score": json.dumps(settings)})
    rows = zip(records.after(0), parts.rows("small"), parts.rows("large"), strict=True)
    unfinished = goal.with_name(f".{goal.name}.unfinished")
    row = 0
    with pq.ParquetWriter(unfinished, schema, compression="zstd") as writer:
        while chunk := list(islice(rows, 4096)):
            seeds, small, large = zip(*chunk, strict=True)
            fits = [fit for fit, _ in small]
            ones, others = ([loss for _, loss in rows_] for rows_ in (small, large))
            scores = score_rows([_sample(seed) for seed in seeds], fits, ones, others, least)
            if ranked is not None:
                scores = [replace(s, gap_calibrated=next(ranked)) if s.gap is not None else s for s in scores]
            named = [_named(score, seed, row + n) for n, (score, seed) in enumerate(zip(scores, seeds, strict=True))]
            writer.write_table(IFD_SCORES.to_arrow(named).replace_schema_metadata(schema.metadata))
            row += len(chunk)
    os.replace(unfinished, goal)
    parts.remove()


def _ranked(parts: _Parts, least_tokens: int, rule: Calibration) -> Iterator[float] | None:
    """The calibrated gaps among all records of those that have a gap, in their order; None without calibration."""
    if rule == "none":
        return None
    small, large, lengths = array("d"), array("d"), array("q")
    both = zip(parts.rows("small"), parts.rows("large"), strict=True)
    stand_in = ScoringSample(None, (), "", "")
    while chunk := list(islice(both, 4096)):
        fits, ones, others = (
            [fit for (fit, _), _ in chunk],
            [loss for (_, loss), _ in chunk],
            [loss for _, (_, loss) in chunk],
        )
        for row in score_rows([stand_in] * len(chunk), fits, ones, others, least_tokens):
            if row.gap is not None and row.ifd_small is not None and row.ifd_large is not None:
                small.append(row.ifd_small)
                large.append(row.ifd_large)
                lengths.append(row.n_tokens_small or 0)
    return map(float, ranked_gaps(small, large, lengths, rule))


def _named(score: IfdScore, seed: Seed | None, row: int) -> IfdScore:
    seed_id = seed.seed_id if seed else identity.digest("bad row", row)
    return replace(score, candidate_id=identity.digest("scored", seed_id, row, length=20), seed_id=seed_id)


def _settings(config: StarConfig) -> JsonMapping:
    """What decides the values."""
    scoring = config.scoring
    kept = {"template", "max_length", "dtype", "device"}
    models: JsonObject = {"small": str(scoring.small), "large": str(scoring.large)}
    # what an output of an earlier version does not say was so
    models |= {
        f"template_{size}": scoring.template_of(model)
        for size, model in zip(("small", "large"), scoring.models, strict=True)
        if scoring.template_of(model) != scoring.template
    }
    models |= {"tolerance": allowed} if (allowed := scoring.allowed_difference) else {}
    models |= {key: value for key in BEFORE if (value := getattr(scoring, key)) != BEFORE[key]}
    read = {"fields": config.seed_fields, "on_bad_row": config.seeds.on_bad_row}
    settings = {**models, **scoring.model_dump(mode="json", include=kept), **read}
    return dict(json.loads(json.dumps(settings)))  # as it is read back


def _check(source: UPath, goal: Path) -> None:
    if not source.is_file():
        raise ConfigError(f"{source}: no such file; expected a file of seeds that ends in {FORMATS}")
    if ending_of(source.name) is None:
        raise ConfigError(f"{source}: format {source.suffix or 'without suffix'!r}; expected {FORMATS}")
    if goal.is_dir():
        raise ConfigError(f"{goal}: a folder; expected the name of the Parquet file to write")
    if goal.exists() and "://" not in str(source) and goal.samefile(str(source)):
        raise ConfigError(f"{goal}: input and output are the same file; name another output")
    try:
        goal.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{goal.parent}: {error.strerror or error}; name an output in a folder that can be written"
        ) from error


def _made_of(goal: Path) -> JsonMapping:
    """What an output says that it was made of; empty where there is none."""
    try:
        metadata = pq.read_schema(goal).metadata or {}
    except (OSError, pa.ArrowInvalid):
        return {}
    return dict(json.loads(metadata.get(b"star_score", b"{}")))


def _still(goal: Path, before: JsonMapping, config: StarConfig, lake: Lake, told: Progress) -> bool:
    """Whether the models of an output are what they were; where that cannot be told, it is said and taken to be so."""
    if "weights" not in before:
        told.note(f"{goal.name} was made before weights were recorded; taken to be of what the models are now")
        return True
    try:
        return bool(present_weights(config.scoring, lake, told) == before["weights"])
    except ModelError as error:
        told.note(f"{error}; {goal.name} stays as it is")
        return True


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    return "; ".join(f"{name} {before.get(name)}, now {now[name]}" for name in now if before.get(name) != now[name])


def _sha256(path: UPath) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def _held(goal: Path) -> Iterator[None]:
    path = goal.with_name(f".{goal.name}.lock")
    lock = filelock.FileLock(path, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise LakeError(
            f"{goal}: another star-pipeline score writes it; wait until it has ended, or name another output"
        ) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()
