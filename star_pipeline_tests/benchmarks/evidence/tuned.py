"""Real models at a size that teaches: all recorded answers scored, and targets tuned on what arms, parts and difficulty take.

    python -m star_pipeline_tests.benchmarks.evidence.tuned --tape FILE --fastchat FOLDER --small FOLDER --large FOLDER --out FOLDER \\
        [--part scores|early|train|tables|all] [--settings FILE] [--scratch FOLDER] [--until SECONDS]

Sizes and settings are tuned.yaml's; it takes a GPU where there is one. ``early`` tunes what needs no scores (and ``--large``). Each
training leaves OUT/trained/NAME.json, with the held-out loss of each question, and no weights: a part that was stopped goes on. ``tables``
needs no model: it reads OUT alone. ``--until`` begins no training later than so many seconds after the start. tuned_cpu.yaml
(``--settings``) is what a machine without a GPU tunes in two hours.
"""

import argparse
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import yaml

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.progress import LineProgress, SilentProgress
from star_pipeline.adapters.question_files import read_questions
from star_pipeline.adapters.scoring import model_cache
from star_pipeline.adapters.study import Form, held_out, tune
from star_pipeline.config import StarConfig, load_config
from star_pipeline.core.aliases import JsonMapping, JsonObject, Vectors
from star_pipeline.core.ports import Progress, ScoringSample
from star_pipeline.core.publishing.overlap import Overlaps
from star_pipeline.core.study.answers import Subject
from star_pipeline.core.study.arms import Arms, Asked, SeedOptions
from star_pipeline.core.study.names import UNTUNED
from star_pipeline.core.study.records import Question
from star_pipeline_tests.benchmarks.evidence import prepared, tuned_tables, whole_tape
from star_pipeline_tests.benchmarks.evidence.gaps import RULES
from star_pipeline_tests.benchmarks.evidence.recorded import embedded
from star_pipeline_tests.benchmarks.evidence.trimmed import trimmed as with_its_own_vocabulary
from star_pipeline_tests.benchmarks.evidence.tuned_sets import (
    PARTS_WITHOUT_SCORES,
    WITHOUT_SCORES,
    Job,
    difficulty,
    matrices,
    parts,
    selection,
)

SETTINGS = Path(__file__).with_suffix(".yaml")
RATES = "rates"


@dataclass(frozen=True)
class Place:
    """Where a training finds what it needs, and leaves what it measured; goes to other processes."""

    out: Path
    scratch: Path
    config: str
    models: dict[str, str]
    measure: str

    def result(self, job: Job) -> Path:
        return self.out / "trained" / f"{job.trained}.json"


def trained(place: Place, job: Job) -> str:
    """Tune, measure, keep the losses; the weights go."""
    config = load_config(place.config)
    study = config.study
    assert study is not None, "as written"
    source, form = place.models[job.target], Form.of(place.models[job.target], config.scoring)
    told: JsonObject = {"target": job.target, "arm": job.arm, "seed": job.seed, "rate": job.rate, "rows": len(job.rows)}
    folder, began = place.scratch / job.trained, time.monotonic()
    if job.arm != UNTUNED:
        how = study.tune.model_copy(update={"learning_rate": job.rate or study.tune.learning_rate})
        samples = [ScoringSample(None, (), asked, answer) for asked, answer in job.rows]
        made = tune(source, samples, folder / "model", how, form, job.seed, SilentProgress(), job.trained)
        told |= {key: value for key, value in asdict(made).items() if key not in ("folder", "rows")}
        source = str(folder / "model")
    tuned_at = time.monotonic()
    scoring = config.scoring.model_copy(update={"dtype": place.measure, "keep_loaded": "one"})
    lake = Lake.at(place.scratch / "numerics")
    lake.prepare()
    losses = held_out(
        source, asked_of(config), Subject(job.target, job.arm, job.seed), form, config.model_copy(update={"scoring": scoring}),
        lake, SilentProgress(),
    )  # fmt: skip  # one call
    told |= {
        "measured_seconds": time.monotonic() - tuned_at,
        "all_seconds": time.monotonic() - began,
        "losses": [[row.question, Path(row.source).stem, row.nll, row.n_tokens] for row in losses],
    }
    model_cache.clear()  # the next training, here or in another process, needs the room
    shutil.rmtree(folder, ignore_errors=True)
    file = place.result(job)
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(told), "utf-8")
    unfinished.replace(file)
    return f"{job.study}, {job.target}, {job.arm}, seed {job.seed}, rate {job.rate or '-'}: {told['all_seconds']:.0f} s, " \
           f"{told.get('seconds', 0):.0f} of them tuning, {told['measured_seconds']:.0f} measuring"  # fmt: skip  # one line


def asked_of(config: StarConfig) -> list[Question]:
    assert config.study is not None, "as written"
    return read_questions(config.study.evaluate.held_out, config.seed_fields, answered=True)


def warm(cores: int) -> None:
    """What a worker does once: the imports take longer than a small training."""
    import torch
    import trl

    torch.set_num_threads(cores)
    _ = trl.SFTTrainer, trl.SFTConfig  # they are imported when they are asked for


class Workers:
    """Some processes, kept for all trainings; none where one at a time is wanted."""

    def __init__(self, processes: int) -> None:
        cores = max(1, len(os.sched_getaffinity(0)) // processes)
        self.processes = processes
        self._pool = (
            ProcessPoolExecutor(processes, get_context("spawn"), warm, (cores,)) if processes > 1 else None
        )  # fmt: skip  # one construction

    def carried_out(self, place: Place, jobs: Iterable[Job], until: float = float("inf")) -> None:
        """All of them that are not done, in their order, a few at a time. One that fails is told, and does not keep the others."""
        left = list({job.trained: job for job in jobs if not place.result(job).exists()}.values())
        (place.out / "trained").mkdir(exist_ok=True)
        if self._pool is None:
            for job in left:
                if time.monotonic() < until:
                    print(trained(place, job), flush=True)
            return
        failed, waiting, running = 0, iter(left), set[Future[str]]()
        while True:
            while len(running) < self.processes and time.monotonic() < until and (following := next(waiting, None)):
                running.add(self._pool.submit(trained, place, following))
            if not running:
                break
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                failed += future.exception() is not None
                print(future.exception() or future.result(), flush=True)
        if failed:
            print(f"{failed} trainings failed; they are tried again when this is called again", flush=True)

    def close(self) -> None:
        if self._pool:
            self._pool.shutdown()


def untrained(target: str) -> Job:
    return Job(RATES, UNTUNED, target, 0, ())


class Study:
    """What is trained, of the tape and the scores that there are."""

    def __init__(
        self, options: argparse.Namespace, place: Place, sizes: JsonMapping, tuned: JsonMapping, workers: Workers
    ) -> None:
        self._workers = workers
        rows = prepared.usable(
            [json.loads(line) for line in options.tape.read_text("utf-8").splitlines()], sizes["longest"]
        )
        self.tape, self.place, self._tuned = whole_tape.Tape(rows, prepared.SEEDS_BY), place, tuned
        self.config = load_config(place.config)
        self._chosen: dict[str, float] = {}
        self._kept = self._without_overlaps(sizes["seeds"])

    def with_own_vocabulary(self) -> "Study":
        """The same study of models that know no other tokens than those of its texts."""
        given = whole_tape.options(self.tape, None, "none", self._kept)
        texts = [(of.seed.instruction, of.seed.response) for of in given]
        texts += [(of.seed.instruction, one.candidate.response or "") for of in given for one in of.options]
        texts += [(one.turns[0], (one.references or ("",))[0]) for one in asked_of(self.config)]
        samples, scoring = [ScoringSample(None, (), *text) for text in texts], self.config.scoring
        models = {
            name: with_its_own_vocabulary(source, samples, Form.of(source, scoring), scoring.max_length, self.place.out / "trimmed")
            for name, source in self.place.models.items()
        }  # fmt: skip  # one call
        self.place = replace(self.place, models=models)
        return self

    def _vectors(self) -> Vectors:
        """Of the instructions to train on."""
        everything = whole_tape.options(self.tape, None, "none", range(len(self.tape.rows)))
        return embedded(matrices(everything)["judge"], self.place.out / f"instructions-{len(everything)}.npy")[
            self._kept
        ]

    def _without_overlaps(self, count: int) -> list[int]:
        """The instructions to train on, by the study's own rule: nothing of the evaluation is in any answer of theirs."""
        arms = Arms(Asked(("seeds",), {}, 0, "rows", Overlaps(asked_of(self.config))))
        arms.add(whole_tape.options(self.tape, None, "none", range(count)))
        rows, _ = arms.finished(lambda texts: [0] * len(texts))
        there = {row.seed_id for row in rows["seeds"]}
        print(
            f"{len(there)} of {count} instructions to train on; {len(arms.left_out)} overlap with the evaluation",
            flush=True,
        )
        return [place for place in range(count) if whole_tape.name_of(self.tape.rows[place]) in there]

    def score(self, progress: Progress) -> None:
        scores = whole_tape.scored_answers(self.tape, self.config, self.place.out, progress)
        everything = range(len(self.tape.rows))
        plain, ranked = (whole_tape.options(self.tape, scores, rule, everything) for rule in ("none", "rank"))
        lines = [json.dumps(row) for row in whole_tape.lines(plain, ranked)]
        (self.place.out / "scores.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
        print(f"{len(lines):,} answers scored", flush=True)

    def early(self) -> Iterator[Iterator[Job]]:
        """What needs neither scores nor the large model."""
        plain, seeds = whole_tape.options(self.tape, None, "none", self._kept), self._tuned["seeds"]
        yield self._at_rates([
            *selection({"none": plain}, WITHOUT_SCORES, seeds), *parts(plain, self._vectors(), seeds, PARTS_WITHOUT_SCORES)
        ])  # fmt: skip  # one list

    def _rates(self, target: str, plain: Sequence[SeedOptions]) -> Iterator[Job]:
        (random, *_) = selection({"none": plain}, ["random"], self._tuned["seeds"][:1])
        yield untrained(target)
        for rate in self._tuned["rates"] if len(self._tuned["rates"]) > 1 else ():
            yield self._share(replace(random, study=RATES, target=target)).at(rate)

    def _at_rates(self, jobs: Iterable[Job]) -> Iterator[Job]:
        """A training seed after the other, each with its target's rate; those of a target's rates before its first."""
        plain, seeds = whole_tape.options(self.tape, None, "none", self._kept), self._tuned["seeds"]
        for job in sorted(jobs, key=lambda job: seeds.index(job.seed)):
            if job.target not in self._chosen:
                self._chosen[job.target] = self._best_rate(job.target, plain)
                yield from self._rates(job.target, plain)
            yield self._share(job).at(self._chosen[job.target])

    def _share(self, job: Job) -> Job:
        """The rows of the job's training seed: all, or as many as each has, none of them another's."""
        count = self._tuned.get("instructions_apart")
        if not count:
            return job
        place = self._tuned["seeds"].index(job.seed) * count
        if place + count > len(job.rows):
            raise SystemExit(
                f"instructions_apart: {count} for each training seed are more than the {len(job.rows)} that there are"
            )
        return replace(job, rows=job.rows[place : place + count])

    def _best_rate(self, target: str, plain: Sequence[SeedOptions]) -> float:
        self._workers.carried_out(self.place, self._rates(target, plain))
        if len(self._tuned["rates"]) == 1:
            return float(self._tuned["rates"][0])
        found = {}
        for job in self._rates(target, plain):
            if not self.place.result(job).exists():
                continue  # it failed, as too high a rate may
            told = json.loads(self.place.result(job).read_text("utf-8"))
            values = [row[2] for row in told["losses"] if row[2] is not None]
            print(
                f"{target}, {job.arm}, rate {job.rate or '-'}: held-out loss {sum(values) / len(values):.4f}",
                flush=True,
            )
            if job.rate is not None:
                found[job.rate] = sum(values) / len(values)
        return min(found, key=lambda rate: found[rate])

    def groups(self) -> Iterator[Iterator[Job]]:
        """All trainings: a group after the other, and in each a training seed after the other, so that what is stopped has the same seeds
        of every arm of a group. What a group's targets need, their rates, is trained when the group is asked for."""
        scores = whole_tape.read_scores(self.tape, self.place.out)
        given: dict[str, list[SeedOptions]] = {
            rule: whole_tape.options(self.tape, scores, rule, self._kept) for rule in RULES
        }
        plain, seeds = given["none"], self._tuned["seeds"]
        for arms in (self._tuned["arms"], self._tuned["more_arms"]):
            yield self._at_rates(selection(given, arms, seeds))
        yield self._at_rates(parts(plain, self._vectors(), seeds, self._tuned["parts"]))
        yield self._at_rates(difficulty(plain, seeds, self._tuned["targets"], self._tuned["levels"]))


def main(given: Sequence[str] | None = None, progress: Progress | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("tape", "fastchat", "small", "large", "out"):
        parser.add_argument(f"--{name}", type=Path, required=name == "out")
    parser.add_argument("--settings", type=Path, default=SETTINGS)
    parser.add_argument(
        "--scratch", type=Path, help="for weights in the making, such as /dev/shm/...; OUT/scratch unless it is given"
    )
    parser.add_argument("--part", choices=["scores", "early", "train", "tables", "all"], default="all")
    parser.add_argument("--until", type=float, default=float("inf"))
    options = parser.parse_args(given)
    until = time.monotonic() + options.until
    options.out.mkdir(parents=True, exist_ok=True)
    wanted = yaml.safe_load(options.settings.read_text("utf-8"))
    if options.part != "tables":
        if lacking := [name for name in ("tape", "fastchat", "small", "large") if getattr(options, name) is None]:
            parser.error(f"--part {options.part} needs --{', --'.join(lacking)}")
        options.url = "http://127.0.0.1:9/v1"  # nobody is asked: the answers are the tape's
        config, _ = prepared.configured(options)
        models = {name: str(getattr(options, name).resolve()) for name in ("small", "large")}
        place = Place(
            options.out, options.scratch or options.out / "scratch", str(config), models, wanted["tuned"]["measure"]
        )
        workers = Workers(wanted["tuned"]["processes"])
        study = Study(options, place, wanted["sizes"], wanted["tuned"], workers)
        if wanted["tuned"].get("vocabulary") == "used":
            place = study.with_own_vocabulary().place
        if options.part in ("scores", "all"):
            study.score(progress or LineProgress(20))
        if options.part != "scores":
            told: list[JsonObject] = []
            for group in study.early() if options.part == "early" else study.groups():
                jobs = list(group) if time.monotonic() < until else []
                told += [described(job) for job in jobs]
                (options.out / f"jobs-{options.part}.json").write_text(json.dumps(told), "utf-8")
                workers.carried_out(place, jobs, until)
        workers.close()
    if options.part not in ("scores", "early"):
        tuned_tables.tell(options.out)


def described(job: Job) -> JsonObject:
    """Which training serves which arm of which study: what tables are made by. No text."""
    return {
        "study": job.study, "arm": job.arm, "target": job.target, "seed": job.seed, "rate": job.rate, "trained": job.trained,
        "characters": sum(len(answer) for _, answer in job.rows),
    }  # fmt: skip  # a group a line


if __name__ == "__main__":
    main()
