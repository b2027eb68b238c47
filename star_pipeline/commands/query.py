"""``star-pipeline query``: SQL or a shipped query on the inspection file."""

import difflib
import itertools
import re
import sys

import duckdb
import pyarrow as pa

from star_pipeline.adapters.lake import Lake
from star_pipeline.core.errors import ConfigError
from star_pipeline.inspection.answers import NUMBERS, WRITERS, distinct, for_eyes, print_answer
from star_pipeline.inspection.build import TABLE_NAMES, made_by_another_version, open_inspection, query_columns
from star_pipeline.inspection.shipped import TOPICS, shipped_queries, superseded_queries

FORMATS = ("table", *WRITERS)
_ROWS_SHOWN = 1_000
_TEXT_SHOWN = 48
TITLES = {
    "health": "Health: does the run mean anything?",
    "pairs": "Agent-pairs",
    "scores": "Difficulty: IFD and gap",
    "judge": "The judge",
    "cost": "Cost",
    "seeds": "Seeds and candidates",
    "data_set": "The final data set",
    "study": "Does the data make a better model?",
}


def run_query(lake: Lake, text: str, form: str) -> None:
    """Print the result of SQL, or of the shipped query or table of that name, in one of FORMATS. Raises StarError."""
    _require(form)
    named = re.fullmatch(r"\w+", text.strip()) is not None
    if old := superseded_queries().get(text.strip()):
        print(f"{old.name}: {old.notes}", file=sys.stderr)
    sql = f"SELECT * FROM {_known(text.strip())}" if named else text
    with open_inspection(lake) as database:
        try:
            statements = len(database.extract_statements(sql))
            if statements != 1:
                raise ConfigError(f"{statements} statements; expected one, or the name of a query (see --list)")
            relation = database.sql(sql)
            if relation is None:
                return
            if form == "table":
                _print_table(relation)
            else:
                print_answer(relation, form)
        except duckdb.Error as error:
            if named and isinstance(error, duckdb.CatalogException):
                raise made_by_another_version(lake) from error
            raise ConfigError(f"the query failed: {' '.join(str(error).split())}") from error


def list_queries(form: str) -> None:
    """Print topic, name, question and columns of the shipped queries in one of FORMATS. Raises ConfigError."""
    _require(form)
    columns = query_columns()
    queries = shipped_queries().values()
    if form != "table":
        names = [[column.name for column in columns[query.name]] for query in queries]
        said = {name: [getattr(query, name) for query in queries] for name in ("topic", "name", "question", "notes")}
        listed = [", ".join(each) for each in names] if form == "csv" else names
        table = pa.table({**said, "columns": listed})
        with duckdb.connect() as database:
            print_answer(database.from_arrow(table), form)
        return
    from rich.console import Console
    from rich.padding import Padding

    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    for topic in TOPICS:
        console.print(f"\n[bold]{TITLES[topic]}[/]")
        for query in (query for query in queries if query.topic == topic):
            console.print(f"  {query.name:20} {query.question}", markup=False, soft_wrap=True)
            listing = ", ".join(column.name for column in columns[query.name])
            console.print(Padding(listing, (0, 0, 0, 23), expand=False), style="dim", markup=False)
    console.print(f"\nTables: {', '.join(TABLE_NAMES)}", markup=False, soft_wrap=True)
    console.print("A query's SQL, to adapt: star-pipeline query --show NAME", markup=False, soft_wrap=True)
    console.print(
        f"Old names, still answered: {', '.join(superseded_queries())}", style="dim", markup=False, soft_wrap=True
    )


def show_query(name: str | None) -> None:
    """Print the SQL of a shipped query, with what its columns hold. Raises ConfigError where there is none of that name."""
    if name is None:
        raise ConfigError("nothing to show; give the name of a query (see --list)")
    queries = shipped_queries()
    if name in TABLE_NAMES:
        raise ConfigError(f"{name} is a table, made by the asset of this name or for it; only queries have SQL to show")
    known = _known(name)
    print((queries.get(known) or superseded_queries()[known]).text.rstrip())


def _known(name: str) -> str:
    """The name of a query or table. Raises ConfigError, with the nearest ones, where there is none of that name."""
    names = [*shipped_queries(), *TABLE_NAMES]
    if name in names or name in superseded_queries():
        return name
    folded = name.lower()
    near = [known for known in names if known.startswith(folded) or folded.startswith(known)]
    near += difflib.get_close_matches(folded, names, 3, 0.6)
    near += [known for known in names if any(word.startswith(folded[:3]) for word in known.split("_"))]
    meant = f"did you mean {' or '.join(list(dict.fromkeys(near))[:3])}? " if near else ""
    raise ConfigError(
        f"no query or table named {name!r}; {meant}see them all with: star-pipeline query --list, or give a SQL statement"
    )


def _require(form: str) -> None:
    if form not in FORMATS:
        raise ConfigError(f"--format {form!r}: expected one of {', '.join(FORMATS)}")


def _print_table(relation: duckdb.DuckDBPyRelation) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 200)
    answer = distinct(relation)
    names, many = answer.columns, len(answer.columns) > 3
    found = for_eyes(answer.limit(_ROWS_SHOWN + 1)).fetchall()
    rows = [[_cell(value, many) for value in row] for row in found[:_ROWS_SHOWN]]
    widths = [max([len(name), *(len(row[place]) for row in rows)]) for place, name in enumerate(names)]
    fitting = len(names)
    if many:
        # texts give way to the columns beside them, and the last columns to the first
        widths = [min(width, max(_TEXT_SHOWN, len(name))) for width, name in zip(widths, names, strict=True)]
        ends = itertools.accumulate(width + 2 for width in widths)
        fitting = max(1, sum(end - 2 <= console.width for end in ends))
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name, width, kind in zip(names[:fitting], widths, answer.types, strict=False):
        right = NUMBERS.fullmatch(str(kind)) is not None
        most = width if many else None
        table.add_column(name, justify="right" if right else "left", overflow="ellipsis", no_wrap=many, max_width=most)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row[:fitting]))
    console.print(table) if rows else console.print("no rows")
    more = ", and there are more" if len(found) > len(rows) else ""
    hidden = f", without the columns {', '.join(names[fitting:])}" if fitting < len(names) else ""
    remedy = ": --format csv, json or parquet gives all" if more or hidden else ""
    print(f"({len(rows):,} rows{more}{hidden}{remedy})", file=sys.stderr)


def _cell(value: float | str | None, one_line: bool) -> str:
    """A cell as eyes take it in: floating-point numbers to six digits, everything else whole."""
    if value is None:
        return ""
    said = f"{value:.6g}" if isinstance(value, float) else value
    return " ".join(said.split()) if one_line else said
