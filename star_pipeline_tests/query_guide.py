"""Writes the guide's page of queries, with the output of a real lake:

python -m star_pipeline_tests.query_guide data_lake > star_pipeline/guides/queries.md

``guide_pages`` makes this page and all else that the guides show of a run.
"""

import json
import sys
from typing import Any

import duckdb
import numpy as np

from star_pipeline.adapters.lake import Lake
from star_pipeline.commands.query import TITLES
from star_pipeline.inspection.build import open_inspection
from star_pipeline.inspection.shipped import shipped_queries

ROWS, CELL = 6, 48
OPENING = """\
# Questions, and their answers

Made by `python -m star_pipeline_tests.query_guide data_lake` from the lake that the README's Run command makes, so the
agents here are the offline profile's text transforms. A heading is the query's name, for `star-pipeline query NAME`; it is also a
view of that name in `inspect.duckdb`. At most six rows of each are shown, numbers to four digits, and an estimate with its 95% interval
as `0.5 [0.4, 0.6]`, where the view has three columns (`x`, `x_low`, `x_high`).

```bash
star-pipeline query --list                          # all of them, with their columns
star-pipeline query pair_leaderboard --format csv   # table (default), csv, json, parquet
star-pipeline query --show pair_leaderboard         # its SQL, to adapt
star-pipeline query "SELECT ..."                    # your own
```

From Python, or any other tool that DuckDB has a client for (the file is replaced as a whole, so a reader never sees half of it):

```python
import duckdb

with duckdb.connect("data_lake/inspect.duckdb", read_only=True) as db:
    best = db.sql("FROM pair_leaderboard").df()
```

## In one line of SQL
"""
ONE_LINERS = (
    (
        "Which rows would I train on first?",
        "SELECT seed_id, pair_id, pi, gap, instruction FROM star_dataset ORDER BY pi DESC LIMIT 3",
    ),
    (
        "What became of one seed?",
        "SELECT slot, pair_id, origin, gap, verdict, pi, why FROM seed_lineage('starter_seeds.jsonl', 7)",
    ),
    (
        "How large is the gap of what the judge likes, and of what it does not?",
        "SELECT verdict, count(*) AS candidates, avg(gap) AS gap FROM lineage WHERE verdict IS NOT NULL AND gap > 0 "
        "GROUP BY 1 ORDER BY 2 DESC",
    ),
    (
        "How long are responses before and after?",
        "SELECT pair_id, median(length(seed_response)) AS before, median(length(response)) AS after, count(*) AS rows "
        "FROM lineage WHERE selected GROUP BY 1 ORDER BY rows DESC",
    ),
)


def page(lake: Lake) -> str:
    """The page as Markdown. Raises LakeError where the lake has no inspection file."""
    with open_inspection(lake) as database:
        parts = [OPENING]
        for question, sql in ONE_LINERS:
            parts.append(f"{question}\n\n```sql\n{sql}\n```\n\n{_answer(database, sql)}")
        topic = None
        for query in shipped_queries().values():
            if query.topic != topic:
                topic = query.topic
                parts.append(f"## {TITLES[topic]}\n")
            parts.append(
                f"### {query.name}\n\n{query.question} {query.notes}\n\n{_answer(database, f'FROM {query.name}')}"
            )
            if query.columns:
                parts.append("; ".join(f"`{name}`: {said}" for name, said in query.columns.items()) + ".\n")
    return "\n".join(parts)


def _answer(database: duckdb.DuckDBPyConnection, sql: str) -> str:
    relation = database.sql(sql)
    names, rows = list(relation.columns), relation.fetchall()
    shown = [name for name in names if not (name.endswith(("_low", "_high")) and _stem(name) in names)]
    lines = ["| " + " | ".join(shown) + " |", "|" + "---|" * len(shown)]
    for row in rows[:ROWS]:
        values = dict(zip(names, row, strict=True))
        lines.append("| " + " | ".join(_cell(values, name) for name in shown) + " |")
    if not rows:
        return f"No rows here. Columns: {', '.join(f'`{name}`' for name in shown)}.\n"
    more = f"\n{len(rows) - ROWS:,} more rows.\n" if len(rows) > ROWS else ""
    return "\n".join(lines) + "\n" + more


def _stem(name: str) -> str:
    return name.rsplit("_", 1)[0]


def _cell(values: dict[str, Any], name: str) -> str:
    low, high = values.get(f"{name}_low"), values.get(f"{name}_high")
    said = _text(values[name])
    return f"{said} [{_text(low)}, {_text(high)}]" if low is not None and high is not None else said


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | dict | np.ndarray):
        value = json.dumps(list(value), default=str)
    line = " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")
    return line if len(line) <= CELL else line[: CELL - 1] + "…"


if __name__ == "__main__":
    print(page(Lake.at(sys.argv[1])), end="")
