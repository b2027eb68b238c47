"""``star-pipeline query``: SQL or a shipped query on the inspection file."""

import re
import sys
from importlib import resources

import duckdb

from star_pipeline.adapters.lake import Lake
from star_pipeline.core.errors import ConfigError
from star_pipeline.inspection.build import inspection_file

_QUERIES = resources.files("star_pipeline.inspection") / "queries"
FORMATS = ("table", "csv", "json", "parquet")


def shipped_queries() -> dict[str, tuple[str, str]]:
    """name -> (what it answers, SQL); the answer is the SQL file's first line, a comment."""
    found = {}
    for entry in sorted(_QUERIES.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".sql"):
            first, sql = entry.read_text("utf-8").split("\n", 1)
            found[entry.name.removesuffix(".sql")] = (first.removeprefix("--").strip(), sql.strip())
    return found


def run_query(lake: Lake, text: str, form: str) -> None:
    """Print the result of SQL, or of the shipped query of that name, in one of FORMATS. Raises StarError."""
    if form not in FORMATS:
        raise ConfigError(f"--format {form!r}: expected one of {', '.join(FORMATS)}")
    queries = shipped_queries()
    if text in queries:
        text = queries[text][1]
    elif re.fullmatch(r"\w+", text.strip()):
        raise ConfigError(f"no query named {text!r}; there are {', '.join(queries)}, or give a SQL statement")
    try:
        with duckdb.connect(inspection_file(lake), read_only=True) as database:
            statements = len(database.extract_statements(text))
            if statements != 1:
                raise ConfigError(f"{statements} statements; expected one, or the name of a query (see --list)")
            relation = database.sql(text)
            if relation is None:
                return
            frame = relation.to_df()
    except duckdb.Error as error:
        raise ConfigError(f"the query failed: {' '.join(str(error).split())}") from error
    if form == "csv":
        frame.to_csv(sys.stdout, index=False)
    elif form == "json":
        print(frame.to_json(orient="records", force_ascii=False, indent=1))
    elif form == "parquet":
        frame.to_parquet(sys.stdout.buffer, index=False)
    else:
        _print_table(frame)


def _print_table(frame: "object") -> None:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

    assert isinstance(frame, pd.DataFrame)
    console = Console(width=None if sys.stdout.isatty() else 200)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in frame.columns:
        table.add_column(
            str(name),
            justify="right" if pd.api.types.is_numeric_dtype(frame[name]) else "left",
            overflow="ellipsis",
            no_wrap=len(frame.columns) > 3,
        )
    for row in frame.itertuples(index=False):
        table.add_row(
            *("" if _null(value) else f"{value:.6g}" if isinstance(value, float) else str(value) for value in row)
        )
    console.print(table, markup=False) if frame.size else console.print("no rows")
    print(f"({len(frame):,} rows)", file=sys.stderr)


def _null(value: object) -> bool:
    return value is None or (isinstance(value, float) and value != value) or str(value) in ("NaT", "<NA>")
