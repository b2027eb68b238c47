"""``star-pipeline doctor``: finds what would stop a run, before it does, and says what to do. It sends no paid request (a judge by
log-probabilities on a server without a price is asked for one token).

What needs a server that does not answer is passed over, all else is looked at: what is wrong is told in one go. Seeds that are not
there yet are nothing wrong: a lake is looked at before it has some.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console

from star_pipeline.adapters.calibration_files import read_findings
from star_pipeline.adapters.dataset_files import dataset_problem, read_manifest
from star_pipeline.adapters.journal.older import passed_over as passed_over_journal
from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.locks import lake_lock
from star_pipeline.adapters.preflight import describe_embedding, describe_model, describe_served
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.adapters.scoring import present_weights
from star_pipeline.adapters.scoring_weights import changed_since
from star_pipeline.adapters.seed_files import passed_over, seed_files
from star_pipeline.adapters.seed_intake import would_hold
from star_pipeline.adapters.shard_state import drawn_unlearnt
from star_pipeline.adapters.snapshots import stale_tables
from star_pipeline.adapters.stores.keeper import kept_in
from star_pipeline.adapters.stores.paths import StorePath
from star_pipeline.adapters.stores.probe import probe
from star_pipeline.commands.calibrate import calibration_told
from star_pipeline.commands.workspace import told_of_workspace
from star_pipeline.config import StarConfig, load_config
from star_pipeline.config.scoring import AnyModel, ServedModel
from star_pipeline.core.calibration.words import verdict
from star_pipeline.core.equations.judge_modes import TEMPLATE_ENDS
from star_pipeline.core.errors import ModelError, StarError
from star_pipeline.core.intake.catalog import update_catalog
from star_pipeline.core.records import Message
from star_pipeline.core.tables import SAMPLING_PLAN, SEED_CATALOG, STAR_DATASET
from star_pipeline.instance import database_of
from star_pipeline.instance.home import storage_described

Diagnosis = tuple[bool, str]
_LEAST_FREE_GB = 1.0
_STORE, _DATABASE = "store", "database"
"""The checks without which others would wait for the same server, to say the same."""


def examine(config: str, lake: Lake, seeds: Sequence[str] = ()) -> bool:
    """Print a line for each thing looked at; returns whether all is well. ``seeds`` are read as a run would, and not taken in."""
    console = Console(highlight=False, soft_wrap=True)
    well = True
    try:
        settings = load_config(config)
    except StarError as error:
        console.print("[red]wrong[/] configuration: ", end="")
        console.print(str(error), markup=False)
        return False
    broken: set[str] = set()
    told: set[str] = set()
    passed: list[str] = []
    of_store = {_STORE} if lake.shared else set()
    of_database = {_DATABASE} if database_of(settings) else set()
    checks: Sequence[tuple[str, set[str], Callable[[], Iterator[Diagnosis]]]] = (
        (
            "configuration",
            set(),
            lambda: iter([(True, f"{config}: {settings.name}, {len(settings.sampled_ids)} sampled pairs")]),
        ),
        ("prompts", set(), lambda: _prompts(settings)),
        (_STORE, set(), lambda: _store(lake)),
        ("lake", of_store, lambda: _lake(settings, lake)),
        (_DATABASE, set(), lambda: _database(settings)),
        ("lock", of_store | of_database, lambda: _lock(settings, lake)),
        ("dagster", of_database, lambda: iter([(True, storage_described(lake, database_of(settings)))])),
        ("seeds", of_store, lambda: _seeds(settings, lake, seeds)),
        ("data set", of_store, lambda: _dataset(lake)),
        ("journal", of_store | of_database, lambda: _journal(settings, lake)),
        ("agents", set(), lambda: _agents(settings)),
        ("models", set(), lambda: _models(settings, lake, not broken & of_store)),
        ("ray", of_store, lambda: _replicas(settings, lake)),
        ("calibration", of_store, lambda: _calibration(settings, lake, config)),
    )
    for title, needed, check in checks:
        if broken & needed:
            passed.append(title)
            continue
        try:
            for good, text in check():
                well = well and good
                if text not in told:  # two may meet the same trouble
                    _tell(console, good, f"{title}: {text}")
                told.add(text)
        except StarError as error:
            well = False
            broken.add(title)
            if str(error) not in told:
                _tell(console, False, f"{title}: {error}")
            told.add(str(error))
    if passed:
        console.print(
            f"not looked at, since {' and '.join(sorted(broken & {_STORE, _DATABASE}))} cannot be asked: {', '.join(passed)}"
        )
    console.print("all is well" if well else "mend what is wrong above, then ask again")
    return well


def _tell(console: Console, good: bool, text: str) -> None:
    console.print("[green]fine[/]  " if good else "[red]wrong[/] ", end="")
    console.print(text, markup=False)


def _prompts(settings: StarConfig) -> Iterator[Diagnosis]:
    library = settings.prompt_library
    end = TEMPLATE_ENDS[settings.judge.mode]
    names = {"refine", f"judge_answers{end}", f"judge_samples{end}"}
    names |= {
        prompt for agent in settings.agents.values() for prompt in (agent.instruction_prompt, agent.response_prompt)
    }
    blank = dict.fromkeys(
        ("system", "instruction", "draft", "question", "question_a", "question_b", "answer_a", "answer_b"), "text"
    )
    for name in sorted(names):
        for history in ((), (Message("user", "text"), Message("assistant", "text"))):
            library.messages(name, {**blank, "history": history})
    yield True, ", ".join(sorted(names))


def _store(lake: Lake) -> Iterator[Diagnosis]:
    if isinstance(lake.root, StorePath):
        yield from probe(lake.root)


def _lake(settings: StarConfig, lake: Lake) -> Iterator[Diagnosis]:
    yield from ((True, line) for line in told_of_workspace(lake, settings))
    lake.prepare()
    here = lake.workspace
    trial = here / ".doctor"
    lake.write_bytes(trial, b"x")
    trial.unlink(missing_ok=True)
    free = shutil.disk_usage(lake.local(here)).free / 1e9
    if free < _LEAST_FREE_GB:
        yield False, f"{here}: {free:.2f} GB free; expected at least {_LEAST_FREE_GB:g}, free some space"
    yield True, f"{here}: can be written, {free:.0f} GB free"


def _database(settings: StarConfig) -> Iterator[Diagnosis]:
    if variable := database_of(settings):
        from star_pipeline.adapters.postgres import Postgres

        postgres = Postgres.of(variable)
        postgres.connect("star-pipeline doctor").close()
        yield True, f"{postgres}: answers"


def _lock(settings: StarConfig, lake: Lake) -> Iterator[Diagnosis]:
    with lake_lock(settings, lake).hold("star-pipeline doctor"):
        yield True, f"{lake.root}: not in use"


def _seeds(settings: StarConfig, lake: Lake, given: Sequence[str]) -> Iterator[Diagnosis]:
    """What the lake would hold after a run with ``given``, each file read whole."""
    files = seed_files(lake.seeds)
    if not files and not given and not lake.has_table(SEED_CATALOG):
        starter = "a run takes the shipped starter seeds in"
        yield (
            True,
            "none yet; "
            + (starter if settings.seeds.starter else f"put some into {lake.seeds}, or name them with --seeds FILE"),
        )
        return
    others: list[str] = []
    seeds = would_hold(lake, given, settings.seed_rules, say=others.append)
    update = update_catalog(lake.catalog_rows(), seeds, settings.shard_sizes)
    others += [line] if (line := passed_over(lake.seeds)) else []
    beside = ", those of --seeds counted in (looked at, not taken in)" if given else f" in {len(files):,} files"
    told = [f"{update.duplicates:,} duplicates", f"{update.added:,} new to the lake"]
    told += [f"{update.removed:,} of the lake's no longer there"] if update.removed else []
    told += [f"{len(update.rejected):,} bad rows left out"] if update.rejected else []
    told += others
    yield True, f"{update.records:,} records{beside}, {', '.join(told)}"
    if found := drawn_unlearnt(lake, update.entries, settings.evolution.lag):
        yield True, found.text


def _dataset(lake: Lake) -> Iterator[Diagnosis]:
    stale = list(stale_tables(lake))
    for row in (row for row in stale if row.asset != SAMPLING_PLAN.name):
        yield False, f"{row.asset}[{row.shard}]: {row.because}; bring it up to date: {row.remedy}"
    if plans := [row for row in stale if row.asset == SAMPLING_PLAN.name]:
        yield (
            True,
            f"{len(plans):,} paid plans, such as that of {plans[0].shard}: {plans[0].because}; they stay as they are",
        )
    manifest = read_manifest(lake)
    if manifest is None and not lake.has_table(STAR_DATASET):
        yield True, "none yet"
        return
    problem = dataset_problem(lake, manifest)
    yield (
        not problem,
        problem or f"{lake.table(STAR_DATASET)}: the file that its manifest names, {manifest['data']['rows']:,} rows",  # type: ignore[index]  # without one there is a problem
    )


def _journal(settings: StarConfig, lake: Lake) -> Iterator[Diagnosis]:
    """Opens it, and rebuilds from its rows what was spent."""
    from star_pipeline.adapters.journal.opening import open_journal

    if lake.shared and settings.journal is None and not kept_in(lake.journal):
        lake.journal_folder(None)
        yield True, f"no replies yet; the first machine that runs {lake.root} is the one that keeps them"
        return
    if line := passed_over_journal(settings, lake):
        yield True, line
    journal = open_journal(settings, lake)
    try:
        right, replies, paid = journal.recount(), journal.replies(), [row.in_usd for row in journal.spend()]
    finally:
        journal.close()
    spent, unsettled = sum(row.cost_usd for row in paid), sum(row.reserved_usd for row in paid)
    of = f" of {settings.budget.usd:g}" if settings.budget.usd else ""
    yield (
        right,
        f"{journal.describe()}: the running totals were wrong and are mended"
        if not right
        else (
            f"{journal.describe()}: {replies:,} replies; this lake spent {spent:.4f}{of} USD, {unsettled:.4f} more may have been billed"
        ),
    )
    if settings.budget.usd and spent + unsettled >= settings.budget.usd:
        yield False, f"the budget of {settings.budget.usd:g} USD is used up; raise budget.usd"


def _agents(settings: StarConfig) -> Iterator[Diagnosis]:
    from star_pipeline.adapters.llm.endpoint import describe_endpoint
    from star_pipeline.adapters.llm.logprobs import logprobs_problem
    from star_pipeline.adapters.llm.prices import FREE, price, require_bounds
    from star_pipeline.adapters.llm.secrets import missing_keys

    if settings.budget.usd is not None:
        require_bounds(settings.agents_in_use, settings.judge.judges, settings.judge_rules.request_params)
    for name, agent in settings.agents_in_use.items():
        cost = price(agent)
        priced = "free" if cost == FREE else "no price known, counted as 0 USD"
        if cost and cost != FREE:
            priced = f"{cost.prompt * 1e6:g} / {cost.completion * 1e6:g} USD per million tokens"
        missing = missing_keys(agent)
        if missing:
            yield False, f"{name} ({agent.model}): {missing} is not set in the environment; export it with the key"
            continue
        if agent.api_base:
            well, found = describe_endpoint(agent)
            yield well, f"{name} ({agent.model}) at {agent.api_base}: {found}; {priced}"
            if not well:
                continue
        else:
            yield True, f"{name} ({agent.model}): {priced}"
        if settings.judge.mode == "logprobs" and name in settings.judge.judges:
            problem = logprobs_problem(settings, name)
            yield not problem, problem or f"{name} ({agent.model}): nothing speaks against judge.mode: logprobs"


def _models(settings: StarConfig, lake: Lake, compared: bool = True) -> Iterator[Diagnosis]:
    """``compared``: with the weights that the lake's scores are of."""
    scoring, sound = settings.scoring, True
    for role, name in zip(("small", "large"), scoring.models, strict=True):
        try:
            yield True, f"{role} {name}: {_described(name, scoring.max_length, lake)}"
        except StarError as error:
            sound = False
            yield False, str(error)
    if sound and compared:
        present = present_weights(scoring, lake, SilentProgress())
        changed = changed_since(lake, present)
        yield (
            not changed,
            changed or f"weights {', '.join(f'{name} {now}' for name, now in present.items()) or 'not there yet'}",
        )
    embedding = settings.memory.embedding
    yield True, f"embedding {embedding}: {describe_embedding(embedding)}"


def _replicas(settings: StarConfig, lake: Lake) -> Iterator[Diagnosis]:
    """Joins the cluster that is to score, and has each replica compute the lake's probe; nothing of it is kept."""
    scoring = settings.scoring
    names = [str(model) for model in scoring.models if not isinstance(model, ServedModel)]
    if scoring.engine != "ray":
        return
    from star_pipeline.adapters.scoring.replicas.examine import examine_cluster

    yield from examine_cluster(scoring, names, settings.memory.embedding, lake)


def _calibration(settings: StarConfig, lake: Lake, config: str) -> Iterator[Diagnosis]:
    """Whether judge, scoring models and agents were found fit; what was never measured, or is doubtful, is nothing wrong."""
    found = read_findings(lake, settings.calibration_fingerprint)
    for line in calibration_told(lake, settings, config):
        yield verdict(found) != "unfit" or not found, line.removeprefix("calibration: ")
    if found and verdict(found) == "fine":
        yield True, f"found fit on {found[0].seeds:,} seeds, {found[0].measured_at}"


def _described(model: AnyModel, max_length: int, lake: Lake) -> str:
    """Raises ModelError, ConfigError."""
    from star_pipeline.adapters.offline.models import trained_models

    if isinstance(model, ServedModel):
        return describe_served(model, max_length)
    name = str(model)
    if not name.startswith("offline/"):
        return describe_model(name)
    if name not in ("offline/small", "offline/large"):
        raise ModelError(f"scoring model {name!r}: the offline profile has offline/small and offline/large")
    if trained := trained_models(Path(lake.local(lake.models))).get(name):
        return f"trained, in {trained}"
    return "not there yet, a run trains it first"
