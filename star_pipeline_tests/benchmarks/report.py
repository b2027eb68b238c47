"""What the report costs to make and to open, on tables of any size: they are invented, in shards of 256 seeds x 5 candidates.

    python -m star_pipeline_tests.benchmarks.report [--seeds 70000] [--keep FOLDER]

Prints the time and the peak resident memory of building ``inspect.duckdb`` and the page (each in a process of its own), the
page's size, and, where there is a Chromium, the time until its HTML is read, until the first plot stands and until the samples do.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb
import pyarrow as pa

from star_pipeline.adapters.lake import Lake
from star_pipeline.commands.report import write_report
from star_pipeline.core.tables import SEED_CATALOG, SHARD_TABLES, STAR_DATASET, TASK_DOMAINS
from star_pipeline.inspection.build import build_inspection
from star_pipeline_tests.benchmarks.bookkeeping import peak_mib
from star_pipeline_tests.browser import CHROMIUM, opened

_PAIRS = [f"{instruction}+{response}" for instruction in ("keep", "ada", "bea") for response in ("ada", "bea", "cleo")]
_AGENTS = {name: {"model": f"hosted_vllm/{name}", "instruction_prompt": "rewrite"} for name in ("ada", "bea", "cleo")}
_SETTINGS = {
    "agents": _AGENTS,
    "pairs": {"sampled": _PAIRS[1:], "base": _PAIRS[:1]},
    "scoring": {
        "small": "small",
        "large": "large",
        "template": "plain",
        "max_length": 2048,
        "divisor": "p95",
        "divide_over": "shard",
    },
    "judge": {"agent": "cleo"},
    "sampling": {"pairs_per_seed": 3, "from_memory": 1},
    "evolution": {"rate": 0.001, "floor": 0.0},
}
_SQL = """
CREATE MACRO chance(what, of) AS (hash(what || of) % 1000003) / 1000003.0;
CREATE TABLE seeds AS SELECT n, format('{:06d}-made', n // 256 + 1) AS shard, format('s{:07d}', n) AS seed_id, 'made.jsonl' AS source,
    n + 1 AS source_row, CAST(NULL AS VARCHAR) AS system, CAST([] AS STRUCT(role VARCHAR, content VARCHAR)[]) AS history,
    format('Explain topic {} of {} to a reader who knows nothing of it.', n, n % 31) AS instruction,
    repeat(format('Topic {} is about things. ', n), 4 + n % 9) AS response FROM range($seeds) AS t(n);
CREATE TABLE rows AS SELECT s.*, c AS slot, s.seed_id || '-' || c AS candidate_id,
    CASE c WHEN 0 THEN $pairs[1] WHEN 1 THEN 'seed' ELSE $pairs[2 + (n * 7 + n // 11 + c * 3) % 8] END AS pair_id,
    chance('fails', s.seed_id || c) < 0.01 AND c > 1 AS failed, 0.5 + chance('small', s.seed_id || c) AS ifd_small,
    chance('gap', s.seed_id || c) * 0.5 - 0.1 AS gap, chance('verdict', s.seed_id || c) AS luck
    FROM seeds AS s, range(5) AS k(c);
CREATE TABLE judged AS SELECT *, CASE WHEN slot = 0 THEN NULL WHEN failed OR gap <= 0 THEN 'skipped' WHEN luck < 0.5 THEN 'better'
    WHEN luck < 0.8 THEN 'worse' WHEN luck < 0.9 THEN 'tie' ELSE 'inconsistent' END AS verdict FROM rows;
CREATE TABLE scored AS SELECT *, CASE WHEN failed THEN NULL ELSE least(1, greatest(gap, 0) / 0.35) END AS pi_dual,
    CASE verdict WHEN 'better' THEN 1.0 WHEN 'worse' THEN 0.0 WHEN 'skipped' THEN NULL ELSE 0.5 END AS pi_llm,
    CASE WHEN failed THEN NULL ELSE pi_dual * coalesce(pi_llm, 0) END AS pi FROM judged;
CREATE TABLE ranked AS SELECT *, row_number() OVER (PARTITION BY seed_id ORDER BY pi DESC NULLS LAST, slot) AS rank FROM scored;
CREATE TABLE done AS SELECT *, rank = 1 AS selected,
    CASE WHEN rank > 1 THEN NULL WHEN pi > 0 THEN 'best' ELSE 'fallback_base' END AS selection FROM ranked ORDER BY n, slot;
"""
_TABLES = {
    "seed_shards": "SELECT * FROM seeds",
    "sampling_plan": "SELECT *, CASE WHEN slot = 1 THEN 'keep' ELSE split_part(pair_id, '+', 1) END AS instruction_agent, "
    "split_part(pair_id, '+', -1) AS response_agent, "
    "CASE slot WHEN 0 THEN 'base' WHEN 1 THEN 'seed' WHEN 2 THEN 'memory' ELSE 'explore' END AS origin, "
    "CASE WHEN slot > 1 THEN 0.125 END AS probability, 'snapshot' AS snapshot_id, CAST([] AS VARCHAR[]) AS neighbour_seed_ids, "
    "CAST([] AS VARCHAR[]) AS neighbour_pair_ids, CAST([] AS DOUBLE[]) AS neighbour_similarities FROM done",
    "candidates": "SELECT * REPLACE (CASE WHEN NOT failed THEN instruction || ' In short.' END AS instruction, CASE WHEN NOT failed THEN "
    "repeat(format('An answer by {} to {}. ', pair_id, n), 3 + CAST(luck * 40 AS INTEGER)) END AS response), "
    "CASE WHEN failed THEN 'failed' ELSE 'ok' END AS status, CASE WHEN failed THEN 'timeout' END AS error_kind, "
    "CASE WHEN failed THEN 'no answer in 60 s' END AS error, 2 AS attempts, 300 AS prompt_tokens, 200 AS completion_tokens, "
    "0.0004 AS cost_usd, 1.5 AS latency_s, 1 AS rewrite_attempts, 100 AS rewrite_prompt_tokens, 60 AS rewrite_completion_tokens, "
    "0.0001 AS rewrite_cost_usd FROM done",
    "ifd_scores": "SELECT * REPLACE (CASE WHEN NOT failed THEN ifd_small END AS ifd_small, CASE WHEN NOT failed THEN gap END AS gap), "
    "CASE WHEN failed THEN 'no_candidate' ELSE 'ok' END AS status, false AS truncated, CASE WHEN NOT failed THEN ifd_small - gap END "
    "AS ifd_large, 90 AS n_tokens_small, 90 AS n_tokens_large, 2.0 AS nll_given_small, 2.1 AS nll_alone_small, 1.5 AS nll_given_large, "
    "1.7 AS nll_alone_large FROM done",
    "judge_verdicts": "SELECT *, seed_id || '-0' AS base_candidate_id, 'judge_samples' AS template, CASE verdict WHEN 'inconsistent' THEN "
    "'better' WHEN 'skipped' THEN NULL ELSE verdict END AS verdict_first, CASE verdict WHEN 'inconsistent' THEN 'worse' WHEN 'skipped' "
    "THEN NULL ELSE verdict END AS verdict_swapped, verdict = 'inconsistent' AS flipped, CASE WHEN verdict <> 'skipped' THEN "
    "repeat('Both answers say something. ', 8) END AS reply_first, reply_first AS reply_swapped, NULL AS error, 2 AS attempts, "
    "800 AS prompt_tokens, 90 AS completion_tokens, 0.0002 AS cost_usd, CASE WHEN verdict <> 'skipped' THEN 'cleo' END AS judge_agent "
    "FROM done WHERE slot > 0",
    "composite_scores": "SELECT * FROM done",
    "agent_pair_probabilities": "SELECT *, 'x' || shard AS snapshot_id, 'y' || shard AS parent_snapshot_id, 32 AS n_sampled, "
    "pull * 10 AS reward, 0.125 + pull * (k - 1) AS probability_before, 0.125 + pull * k AS probability FROM (SELECT shard, pair_id, "
    "(place - 4.5) / 20000 AS pull, CAST(split_part(shard, '-', 1) AS INTEGER) AS k FROM (SELECT DISTINCT shard FROM seeds), "
    "(SELECT unnest($pairs[2:]) AS pair_id, generate_subscripts($pairs[2:], 1) AS place)) ORDER BY shard, pair_id",
    "seed_catalog": "SELECT *, n % 256 AS position, true AS live FROM seeds",
    "task_domains": "SELECT *, n * 7 % 20 AS domain, format('topic, number {}', domain) AS domain_name, 's0000000' AS nearest_seed_id, "
    "0.2 + chance('near', seed_id) * 0.79 AS nearest_similarity, CASE WHEN nearest_similarity > 0.95 THEN 's0000000' ELSE seed_id END "
    "AS near_duplicate_of FROM done WHERE selected",
    "star_dataset": "SELECT * REPLACE (coalesce(ifd_small, 0.5) AS ifd_small), ifd_small - gap AS ifd_large, [{'role': 'user', 'content': "
    "instruction}, {'role': 'assistant', 'content': response}] AS messages FROM done WHERE selected",
}


def invented(lake: Lake, seeds: int) -> None:
    """Write the tables of a finished lake of ``seeds`` seeds."""
    lake.prepare()
    origin = {"config_fingerprint": "0123456789ab", "config_name": "invented", "config_settings": json.dumps(_SETTINGS)}
    with duckdb.connect() as database:
        for statement in filter(str.strip, _SQL.split(";")):
            wanted = {"seeds": seeds, "pairs": _PAIRS}
            database.execute(statement, {name: value for name, value in wanted.items() if f"${name}" in statement})
        for spec in (*SHARD_TABLES, SEED_CATALOG, TASK_DOMAINS, STAR_DATASET):
            sql = _TABLES[spec.name]
            found = database.execute(sql, {"pairs": _PAIRS} if "$pairs" in sql else None).to_arrow_table()
            table = found.select([column.name for column in spec.columns]).cast(
                pa.schema([(c.name, c.type) for c in spec.columns])
            )
            table = pa.Table.from_arrays(table.columns, schema=spec.schema)
            if spec not in SHARD_TABLES:
                lake.write_table(spec, table)
                continue
            shards = found.column("shard").to_pylist()
            starts = [place for place, shard in enumerate(shards) if place == 0 or shard != shards[place - 1]]
            assert len(starts) == len(set(shards)), f"{spec.name}: the rows of a shard are not together"
            for start, end in zip(starts, [*starts[1:], len(shards)], strict=True):
                part = table.slice(start, end - start).replace_schema_metadata(origin)
                lake.write_table(spec, part, shards[start])


def measured(what: str, lake: Lake, samples: int) -> dict[str, float]:
    began = time.perf_counter()
    size = 0.0
    if what == "inspection":
        build_inspection(lake)
        size = lake.inspection.stat().st_size / 1e6
    else:
        size = len(write_report(lake, None, samples)[1].html) / 1e6
    return {"seconds": time.perf_counter() - began, "peak": peak_mib(), "megabytes": size}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=70_000)
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--keep", help="make the lake here, and leave it")
    parser.add_argument("--child", choices=("inspection", "report"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measured(options.child, Lake.at(options.keep), options.samples)))
        return
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake.at(options.keep or folder)
        if not lake.inspection.exists():
            invented(lake, options.seeds)
        for what in ("inspection", "report"):
            command = [
                sys.executable,
                "-m",
                __spec__.name,
                "--child",
                what,
                "--keep",
                str(lake.root),
                "--samples",
                str(options.samples),
            ]
            reply = json.loads(
                subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
            )
            print(f"{what:10} {reply['seconds']:.1f} s, peak {reply['peak']:,.0f} MiB, {reply['megabytes']:.1f} MB")
        if not CHROMIUM:
            print("no Chromium here: the page was not opened")
            return
        with opened(Path(str(lake.report))) as page:
            page.wait_for("document.querySelector('.plot[data-drawn]') && document.body.dataset.ready")
            times = page.evaluate(
                "[performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd, +document.querySelector('.plot[data-drawn]')"
                ".dataset.drawn, +document.body.dataset.ready]"
            )
            print(
                "opened     HTML read after {:.0f} ms, first plot {:.0f} ms, samples {:.0f} ms; target 3,000 ms".format(
                    *times
                )
            )
            print(f"           {len(page.requests)} request, messages: {page.messages or 'none'}")


if __name__ == "__main__":
    main()
