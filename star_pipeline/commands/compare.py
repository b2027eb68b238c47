"""``star-pipeline compare``: what several lakes were made with, what came of it and what it cost, side by side."""

import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources

import duckdb
from rich.console import Console
from rich.table import Table

from star_pipeline.adapters.lake import Lake
from star_pipeline.core.aliases import JsonMapping
from star_pipeline.core.errors import ConfigError, LakeError
from star_pipeline.inspection.build import inspection_file

_SQL = resources.files("star_pipeline.inspection") / "comparison"
FORMATS = ("table", "csv", "json")
_COUNTED = ("verdicts", "selections", "paid")
_UNKNOWN = "unknown"
_SEEDS_SHOWN = 10

Value = str | float | None


@dataclass(frozen=True)
class ComparedValues:
    """One measure; ``values`` has one for each lake, None where it has none."""

    section: str
    measure: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class DifferingSeed:
    """A seed on which selections differ. ``pairs``: that of the first lake, then those of lakes that differ from it, else None.

    The same pair with another text has ``other text`` behind it.
    """

    seed_id: str
    source: str
    source_row: int
    turn: int
    pairs: tuple[str | None, ...]


@dataclass(frozen=True)
class Comparison:
    lakes: tuple[str, ...]
    lines: tuple[ComparedValues, ...]
    differing_seeds: tuple[DifferingSeed, ...]


def compare(names: Sequence[str]) -> Comparison:
    """The lakes' inspection files side by side, each against the first. Raises StarError."""
    lakes = [Lake.at(name) for name in names]
    if len({str(lake.root) for lake in lakes}) < max(2, len(lakes)):
        raise ConfigError("expected two or more different lakes: star-pipeline compare LAKE LAKE …")
    files = [inspection_file(lake) for lake in lakes]
    with duckdb.connect() as database:
        measured, configs = [], []
        for lake, file in zip(lakes, files, strict=True):
            with _Attached(database, lake, file, "other"):
                configs.append(_configs(database))
                measured.append(_measures(database))
        lines = [*_config_lines(configs), *_measure_lines(measured)]
        with _Attached(database, lakes[0], files[0], "base"):
            agreement: list[dict[str, Value]] = [{}]
            differing: list[dict[str, DifferingSeed]] = [{}]
            for lake, file in zip(lakes[1:], files[1:], strict=True):
                with _Attached(database, lake, file, "other"):
                    found = _differing(database)
                    differing.append(found)
                    agreement.append(
                        {
                            "seeds in both": _one(
                                database,
                                "SELECT count(*) FROM base.star_dataset JOIN other.star_dataset USING (seed_id)",
                            ),
                            "selections that differ": len(found),
                            "of another pair": sum(seed.pairs[0] != seed.pairs[1] for seed in found.values()),
                        }
                    )
    lines += [
        ComparedValues("against the first lake", name, tuple(one.get(name) for one in agreement))
        for name in agreement[-1]
    ]
    return Comparison(tuple(names), tuple(lines), tuple(_merged(differing)))


class _Attached:
    """A lake's inspection file, read-only, under a name of the session."""

    def __init__(self, database: "duckdb.DuckDBPyConnection", lake: Lake, file: str, name: str) -> None:
        self._database, self._lake, self._file, self._name = database, lake, file, name

    def __enter__(self) -> None:
        path = self._file.replace("'", "''")
        try:
            self._database.execute(f"ATTACH '{path}' AS {self._name} (READ_ONLY)")
            self._database.execute(f"SELECT 1 FROM {self._name}.configs LIMIT 1")
        except duckdb.Error as error:
            old = isinstance(error, duckdb.CatalogException)
            what = "was made by another version" if old else f"cannot be read: {' '.join(str(error).split())}"
            raise LakeError(
                f"{self._file} {what}; make it again with: star-pipeline run --lake {self._lake.root}"
            ) from error

    def __exit__(self, *_: object) -> None:
        self._database.execute("USE memory")
        self._database.execute(f"DETACH {self._name}")


def _sql(name: str) -> str:
    return (_SQL / f"{name}.sql").read_text("utf-8")


def _one(database: "duckdb.DuckDBPyConnection", sql: str) -> int:
    return int(database.execute(sql).fetchall()[0][0])


def _configs(database: "duckdb.DuckDBPyConnection") -> list[tuple[str, str, str | None]]:
    """(name, fingerprint, settings as JSON), in the order of use."""
    return list(
        database.execute("SELECT name, fingerprint, settings FROM other.configs ORDER BY last_shard, rowid").fetchall()
    )


def _measures(database: "duckdb.DuckDBPyConnection") -> dict[tuple[int, str, str], float | None]:
    database.execute("USE other")
    return {
        (place, section, measure): value
        for place, section, measure, value in database.execute(_sql("measures")).fetchall()
    }


def _differing(database: "duckdb.DuckDBPyConnection") -> dict[str, DifferingSeed]:
    """seed_id -> the seed with the first lake's pair and the other's."""
    rows = database.execute(_sql("differing_seeds")).fetchall()
    return {
        seed_id: DifferingSeed(seed_id, source, row, turn, (here, f"{there}, other text" if here == there else there))
        for source, row, turn, seed_id, here, there in rows
    }


def _merged(differing: Sequence[Mapping[str, DifferingSeed]]) -> list[DifferingSeed]:
    """One entry for each seed, with a pair for each lake."""
    first = {seed_id: seed for found in reversed(differing) for seed_id, seed in found.items()}
    return [
        DifferingSeed(
            seed_id,
            seed.source,
            seed.source_row,
            seed.turn,
            (seed.pairs[0], *(found[seed_id].pairs[1] if seed_id in found else None for found in differing[1:])),
        )
        for seed_id, seed in sorted(first.items(), key=lambda item: (item[1].source, item[1].source_row, item[1].turn))
    ]


def _config_lines(configs: Sequence[Sequence[tuple[str, str, str | None]]]) -> list[ComparedValues]:
    """Names, fingerprints, and the settings that are not the same in all lakes."""
    lines = [
        ComparedValues("configuration", title, tuple(_in_turn(config[place] for config in lake) for lake in configs))
        for place, title in ((0, "name"), (1, "fingerprint"))
    ]
    flat = [[_flat(json.loads(text)) if text else None for _, _, text in lake] for lake in configs]
    if any(None in lake for lake in flat):
        # tables of an earlier version: nothing can be said of the settings that made them
        lines.append(
            ComparedValues(
                "configuration", "settings in tables", tuple(_UNKNOWN if None in lake else "kept" for lake in flat)
            )
        )
    for path in sorted({path for lake in flat for settings in lake if settings for path in settings}):
        values = tuple(
            _UNKNOWN if None in lake else _in_turn(settings.get(path) for settings in lake if settings) for lake in flat
        )
        if len({value for value in values if value != _UNKNOWN}) > 1:
            lines.append(ComparedValues("settings that differ", path, values))
    return lines


def _in_turn(values: Iterable[object]) -> str | None:
    """The distinct values in order, as one text: more than one where the configuration has changed on a living lake."""
    known = [str(value) for value in dict.fromkeys(values) if value is not None]
    return " → ".join(known) or None


def _flat(settings: JsonMapping, before: str = "") -> dict[str, str | None]:
    """{'evolution.rate': '0.001', …}; lists as JSON."""
    found: dict[str, str | None] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{before}{name}.")
        else:
            found[before + name] = (
                value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            )
    return found


def _measure_lines(measured: Sequence[Mapping[tuple[int, str, str], float | None]]) -> list[ComparedValues]:
    keys = sorted({key for lake in measured for key in lake}, key=lambda key: (key[0], key[2]))
    return [
        ComparedValues(
            section, measure, tuple(lake.get((place, section, measure), _absent(section)) for lake in measured)
        )
        for place, section, measure in keys
    ]


def _absent(section: str) -> float | None:
    return 0.0 if section in _COUNTED else None


def print_comparison(comparison: Comparison, form: str) -> None:
    """To standard output, in one of FORMATS; the table shows the first of the seeds that differ, the others all of them."""
    if form == "json":
        print(json.dumps(asdict(comparison), ensure_ascii=False, indent=1))
    elif form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(("section", "measure", *comparison.lakes))
        for line in (*comparison.lines, *(_as_line(seed) for seed in comparison.differing_seeds)):
            writer.writerow((line.section, line.measure, *line.values))
    else:
        _print_table(comparison)


def _as_line(seed: DifferingSeed) -> ComparedValues:
    turn = f", turn {seed.turn}" if seed.turn > 1 else ""
    return ComparedValues("selections that differ", f"{seed.source} row {seed.source_row}{turn}", seed.pairs)


def _print_table(comparison: Comparison) -> None:
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    table = Table(box=None, padding=(0, 2), pad_edge=False, header_style="bold")
    table.add_column("")
    for name in comparison.lakes:
        table.add_column(name, justify="right", overflow="fold")
    section = ""
    shown = comparison.differing_seeds[:_SEEDS_SHOWN]
    for line in (*comparison.lines, *(_as_line(seed) for seed in shown)):
        if line.section != section:
            table.add_row(f"[bold]{line.section}[/bold]", *[""] * len(comparison.lakes))
            section = line.section
        table.add_row(f"  {line.measure}", *(_shown(value) for value in line.values))
    console.print(table)
    more = len(comparison.differing_seeds) - len(shown)
    if more:
        console.print(f"… and {more:,} more seeds; all of them with --format csv or json")


def _shown(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value.replace("[", "\\[")
    return f"{int(value):,}" if float(value).is_integer() else f"{value:.4f}"
