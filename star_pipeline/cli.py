"""The console script ``star-pipeline``. Options follow the subcommand; every user's mistake ends as one line."""

import io
import os
import signal
import sys
import warnings
from typing import Annotated, Any

import typer

from star_pipeline.cli_export import export
from star_pipeline.cli_journal import journal
from star_pipeline.cli_options import Config, LakeRoot
from star_pipeline.commands.storage import storage_trouble
from star_pipeline.core.errors import ConfigError, StarError

app = typer.Typer(
    name="star-pipeline",
    help="Star-Agents: rewrites, answers, scores and selects instruction data for one target model.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
# the base of all of typer's complaints about a command line; typer does not export it, so that its type has no name (Any)
_USAGE_ERROR: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
_INTERRUPTED, _NOT_FIT = 130, 3
_STOPPED = "stopped; what is finished stays, run the same command to go on"
app.add_typer(journal)
Again = Annotated[list[str] | None, typer.Option(metavar="SHARD|all", help="make this again; may be repeated")]


@app.command()
def run(
    config: Config = "offline",
    lake: LakeRoot = "data_lake",
    seeds: Annotated[
        list[str] | None, typer.Option("--seeds", help="seed file or folder to take in; may be repeated")
    ] = None,
    resample: Again = None,
    rescore: Again = None,
    rejudge: Again = None,
) -> None:
    """Take the seeds in and make all that is new or changed, shard after shard.

    --resample draws plans anew and pays for new candidates, --rescore scores and judges again, --rejudge only judges again;
    later snapshots are folded anew without any call.

    Example: star-pipeline run --config local --lake my_lake --seeds alpaca.json
    """
    from rich.console import Console

    from star_pipeline.adapters.lake import Lake
    from star_pipeline.adapters.progress import progress_on
    from star_pipeline.commands.run import run_pipeline

    home = Lake.at(lake)
    chosen = {"resample": resample or [], "rescore": rescore or [], "rejudge": rejudge or []}
    with progress_on(Console(stderr=True)) as progress:
        outcome = run_pipeline(config, home, seeds or [], progress, again=chosen)
    from star_pipeline.commands.summary import print_summary

    console = Console() if sys.stdout.isatty() else Console(width=120)
    if outcome.idle:
        console.print("Nothing new: every seed is done. Here is what the lake holds.", highlight=False)
    if not print_summary(console, home, outcome, config):
        raise typer.Exit(1)


@app.command()
def dev(
    config: Config = "offline",
    lake: LakeRoot = "data_lake",
    host: Annotated[str, typer.Option(help="address the UI listens on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port the UI listens on", min=1, max=65535)] = 3000,
) -> None:
    """Open the Dagster UI and its daemon on this lake.

    Example: star-pipeline dev --lake my_lake --port 3001
    """
    from star_pipeline.adapters.lake import Lake
    from star_pipeline.commands.dev import serve

    serve(config, Lake.at(lake), host, port)


@app.command()
def query(
    sql: Annotated[
        str | None, typer.Argument(help="a SQL statement, or the name of a shipped query or a table")
    ] = None,
    lake: LakeRoot = "data_lake",
    form: Annotated[str, typer.Option("--format", help="table (floats to six digits), csv, json or parquet")] = "table",
    listing: Annotated[
        bool, typer.Option("--list", help="list the shipped queries: what each answers, and its columns")
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="print the SQL of the named query, to adapt it")] = False,
) -> None:
    """Ask the inspection file: SQL, or a shipped query.

    Example: star-pipeline query winners; star-pipeline query "SELECT * FROM pair_leaderboard" --format csv
    """
    from star_pipeline.adapters.lake import Lake
    from star_pipeline.commands.query import list_queries, run_query, show_query

    if listing:
        list_queries(form)
    elif show:
        show_query(sql)
    elif sql is None:
        raise ConfigError("nothing asked; give a SQL statement or the name of a query (see --list)")
    else:
        run_query(Lake.at(lake), sql, form)


@app.command()
def report(
    lake: LakeRoot = "data_lake",
    output: Annotated[
        str | None, typer.Option(help="HTML file or folder to write to; the lake's report.html if not given")
    ] = None,
    samples: Annotated[int, typer.Option(help="seeds in the browser of samples", min=0, max=20_000)] = 400,
    show: Annotated[bool, typer.Option("--open", help="show the page in a browser")] = False,
) -> None:
    """Write one self-contained HTML page on the lake: summary, plots, and a browser of samples.

    Example: star-pipeline report --lake my_lake --output my_report.html --samples 1000
    """
    from star_pipeline.adapters.lake import Lake
    from star_pipeline.adapters.stores.paths import path_at
    from star_pipeline.commands.report import open_in_browser, write_report

    home = Lake.at(lake)
    path, page = write_report(home, output, samples)
    print(f"{path} ({len(page.html) / 1e6:.1f} MB; {page.samples:,} of {page.seeds:,} seeds in the browser of samples)")
    if show and not open_in_browser(home.local_files([path_at(path)])[0]):
        _say("no browser was found to show it in; open the file yourself")


@app.command()
def compare(
    lakes: Annotated[list[str], typer.Argument(metavar="LAKE LAKE …", help="lakes; each is held against the first")],
    form: Annotated[str, typer.Option("--format", help="table, csv or json (to standard output)")] = "table",
) -> None:
    """Put lakes side by side: settings, what was made and judged, pair probabilities, what was paid, which selections differ.

    Example: star-pipeline compare my_lake my_lake_uniform
    """
    from star_pipeline.commands.compare import FORMATS, print_comparison
    from star_pipeline.commands.compare import compare as compared

    _require_format(form, FORMATS)
    print_comparison(compared(lakes), form)


@app.command()
def replay(
    rate: Annotated[float | None, typer.Option(help="β of Eq. 8; as recorded if not given", min=0, max=1)] = None,
    floor: Annotated[
        float | None, typer.Option(help="least probability of a pair; as recorded if not given", min=0, max=1)
    ] = None,
    method: Annotated[str | None, typer.Option(help="eq8 or thompson; as recorded if not given")] = None,
    cost_weight: Annotated[float | None, typer.Option(help="π a USD is worth; as recorded if not given")] = None,
    lake: LakeRoot = "data_lake",
    form: Annotated[str, typer.Option("--format", help="table; csv or json for every shard")] = "table",
) -> None:
    """Recompute the pairs' probabilities by other rules, for the draws of a lake as they were, without any call.

    Example: star-pipeline replay --rate 0.01 --lake my_lake
    """
    from star_pipeline.adapters.lake import Lake
    from star_pipeline.commands import replay as replaying

    _require_format(form, replaying.FORMATS)
    steps = replaying.replay(Lake.at(lake), rate, floor, replaying.known_method(method), cost_weight)
    replaying.print_replay(list(steps), form)


@app.command()
def score(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="file of seeds: JSON, JSONL, CSV or Parquet")],
    target: Annotated[str, typer.Argument(metavar="OUTPUT", help="Parquet file to write, a row a record")],
    small: Annotated[
        str | None, typer.Option(help="the target model: Hugging Face id, folder, or MODEL@URL of a server")
    ] = None,
    large: Annotated[str | None, typer.Option(help="a larger model of the same kind, given in the same ways")] = None,
    template: Annotated[str | None, typer.Option(help="alpaca, plain or chat")] = None,
    max_length: Annotated[int | None, typer.Option(help="tokens of the longer pass, start token included")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32, bfloat16 or float16")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N")] = None,
    config: Config = "offline",
    lake: LakeRoot = "data_lake",
) -> None:
    """Score any file of seeds by instruction-following difficulty (IFD), without a run. Interrupted, it goes on.

    What is not given comes from the configuration. Example:
    star-pipeline score alpaca.json scores.parquet --small EleutherAI/pythia-1b --large EleutherAI/pythia-6.9b
    """
    from rich.console import Console

    from star_pipeline.adapters.lake import Lake
    from star_pipeline.adapters.progress import progress_on
    from star_pipeline.commands.score import print_scores, score_file
    from star_pipeline.config import load_config

    given = {
        "small": small,
        "large": large,
        "template": template,
        "max_length": max_length,
        "dtype": dtype,
        "device": device,
    }
    settings = load_config(config, {"scoring": {name: value for name, value in given.items() if value is not None}})
    with progress_on(Console(stderr=True)) as progress:
        outcome = score_file(source, target, settings, Lake.at(lake), progress)
    print_scores(Console() if sys.stdout.isatty() else Console(width=120), target, outcome)


app.command()(export)


@app.command()
def estimate(
    config: Config = "offline",
    lake: LakeRoot = "data_lake",
    seeds: Annotated[
        list[str] | None,
        typer.Option("--seeds", help="count these seed files in, without taking them in; may be repeated"),
    ] = None,
    form: Annotated[str, typer.Option("--format", help="table or json")] = "table",
) -> None:
    """Tell what a run would need: calls, tokens, USD and scoring FLOPs, net of what the journal already has.

    Example: star-pipeline estimate --config my.yaml --seeds alpaca.json
    """
    from star_pipeline.adapters.lake import Lake
    from star_pipeline.commands.estimate import print_estimate, run_estimate

    _require_format(form, ("table", "json"))
    print_estimate(run_estimate(config, Lake.at(lake), seeds or []), form)


@app.command()
def calibrate(
    config: Config = "offline",
    lake: LakeRoot = "data_lake",
    seeds: Annotated[
        list[str] | None,
        typer.Option("--seeds", help="count these seed files in, without taking them in; may be repeated"),
    ] = None,
    count: Annotated[int, typer.Option(help="seeds to measure on, the first that a run would take", min=1)] = 24,
) -> None:
    """Measure on a few seeds, before a run is paid for, whether judge, scoring models and agents are fit.

    Its replies stay in the journal, so that the run does not pay for them again. Exits with 0 where all is fit and with 3 where
    something is doubtful or unfit; the run is not refused.

    Example: star-pipeline calibrate --config my.yaml --seeds alpaca.json
    """
    from rich.console import Console

    from star_pipeline.adapters.lake import Lake
    from star_pipeline.adapters.progress import progress_on
    from star_pipeline.commands.calibrate import print_calibration, run_calibration

    home = Lake.at(lake)
    with progress_on(Console(stderr=True)) as progress:
        found = run_calibration(config, home, seeds or [], count, progress)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    if not print_calibration(console, home, config, seeds or [], found):
        raise typer.Exit(_NOT_FIT)


@app.command()
def study(
    config: Config = "offline",
    lake: LakeRoot = "data_lake",
    arms_only: Annotated[
        bool, typer.Option("--arms-only", help="only make the training sets, which takes seconds and asks nothing")
    ] = False,
) -> None:
    """Does the data make a better model? Training sets out of the lake's tables, a model tuned on each, and what each is worth.

    Each set (arm) has one row of every seed, chosen by another rule; the configuration's section study says which arms, how models are
    tuned and what is measured. The same command goes on after a kill: nothing is trained, answered or paid for twice.

    Example: star-pipeline study --config my.yaml --lake my_lake
    """
    from rich.console import Console

    from star_pipeline.adapters.lake import Lake
    from star_pipeline.adapters.progress import progress_on
    from star_pipeline.commands.study import print_arms, print_report, print_results, run_study

    home = Lake.at(lake)
    with progress_on(Console(stderr=True)) as progress:
        made, outcome, section = run_study(config, home, progress, arms_only)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    print_arms(console, home, made)
    if not arms_only:
        print_results(console, home, outcome)
    print_report(console, home, section)


@app.command()
def doctor(
    config: Config = "offline",
    lake: LakeRoot = "data_lake",
    seeds: Annotated[
        list[str] | None,
        typer.Option("--seeds", help="check these seed files too, without taking them in; may be repeated"),
    ] = None,
) -> None:
    """Check configuration, credentials, endpoints, models, seeds and lake, and say what to do.

    Exits with 0 where all is well and with 1 where something is wrong; a lake without seeds yet is well.

    Example: star-pipeline doctor --config my.yaml --seeds alpaca.json
    """
    from star_pipeline.adapters.lake import Lake
    from star_pipeline.commands.doctor import examine

    if not examine(config, Lake.at(lake), seeds or []):
        raise typer.Exit(1)


def _require_format(given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise ConfigError(f"--format {given!r}: expected one of {', '.join(known)}")


def main() -> None:
    """Entry point: exit 0 when done, 1 when a run failed, 2 for bad usage or configuration, 3 not fit, 130 when interrupted."""
    warnings.filterwarnings("ignore")  # of the libraries below; a user can do nothing about them
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path that is no UTF-8, a β where the terminal knows none
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # threads that wait for each other sleep instead of spinning: beside any other busy process that is twice as fast
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        code = app(standalone_mode=False) or 0
        if code == _INTERRUPTED:
            _say(_STOPPED)
        sys.exit(code)
    except _USAGE_ERROR as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())
            sys.exit(2)
        context = getattr(error, "ctx", None)
        _say(f"{error.format_message()} (see {context.command_path if context else 'star-pipeline'} --help)")
        sys.exit(2)
    except ConfigError as error:
        _say(str(error))
        sys.exit(2)
    except StarError as error:
        _say(str(error))
        sys.exit(1)
    except (KeyboardInterrupt, typer.Abort):
        _say(_STOPPED)
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        reason = storage_trouble(error)
        if reason is None:
            raise
        _say(reason)
        sys.exit(1)


def _say(text: str) -> None:
    print(f"star-pipeline: {text}", file=sys.stderr)
