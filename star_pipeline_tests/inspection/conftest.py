"""A lake with something of everything: failures, reversals, two configurations, duplicates, rows left out."""

import hashlib
import json
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.progress import LineProgress
from star_pipeline.commands.run import run_pipeline
from star_pipeline.core.errors import CallError
from star_pipeline.core.ports import ChatReply, ChatRequest
from star_pipeline.core.records import AgentSpend, LeftOutRow
from star_pipeline.core.tables import LEFT_OUT_ROWS, SHARD_TABLES, TABLES
from star_pipeline.defs.resources import LakeResource, SettingsResource
from star_pipeline.inspection.build import build_inspection
from star_pipeline_tests.conftest import CONFIG, fake_resources, seed_rows
from star_pipeline_tests.inspection.plainly import known

SPENT = [AgentSpend("a", "respond", 90, 900, 90, 1.25, 2, 0.5), AgentSpend("a", "rewrite", 7, 70, 7, 0.25, 0, 0.0)]


def drawn(*parts: object) -> float:
    """A number in [0, 1) that depends on the parts alone."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6], "big") / 2**48


def mixed(request: ChatRequest) -> ChatReply:
    """Fails now and then, answers some of them alike, prefers position A a little, and costs something."""
    text = request.messages[-1].content
    luck = drawn(request.agent, request.template, text, request.sample)
    if luck < 0.06:
        raise CallError("timeout", "no reply in time", 2)
    if request.template.startswith("judge"):
        said = "no verdict" if luck < 0.15 else "[A]" if luck < 0.55 else "[B]" if luck < 0.85 else "[C]"
    elif luck < 0.2 and not request.template.startswith("re"):
        said = ""
    elif luck < 0.35 and request.stage == "respond":
        said = "Yes."
    else:
        said = f"{request.agent} on {request.template}: " + text[-120:] * (1 + int(luck * 6))
    tokens = len(text.split())
    return ChatReply(said, "stop", tokens, len(said.split()), tokens * 1e-4 * (1 + luck), 2 * luck, 1 + int(luck > 0.9))


def configuration(folder: Path, judge_model: str, **judge: Any) -> Path:
    models = {"a": "hosted_vllm/one", "b": "hosted_vllm/two", "j": judge_model}
    settings = {
        **CONFIG,
        "agents": {name: {"model": model} for name, model in models.items()},
        "sampling": {"pairs_per_seed": 3, "from_memory": 1, "shard_size": 24},
        "judge": {"agent": "j", **judge},
        "pairs": {**CONFIG["pairs"], "include_seed": "abstain" not in judge.values()},
        "memory": {"min_pi": 0.1},
    }
    path = folder / f"{judge_model.rsplit('/')[-1]}.json"
    path.write_text(json.dumps(settings))
    return path


@pytest.fixture(scope="session")
def lake(tmp_path_factory) -> Lake:
    folder = tmp_path_factory.mktemp("inspection")
    lake = Lake.at(folder / "lake")
    twins = [{**row, "output": f"Another answer to {n}."} for n, row in enumerate(seed_rows(8))]
    history = [{**row, "history": [["Hello", "Good day"]]} for row in seed_rows(3)]
    for name, rows, config in (
        ("first", seed_rows(44), configuration(folder, "hosted_vllm/one")),
        (
            "second",
            twins + history + seed_rows(20, 50),
            configuration(folder, "hosted_vllm/two", on_reversal="abstain"),
        ),
    ):
        lake.prepare()
        lake.write_bytes(lake.seeds / f"{name}.json", json.dumps(rows).encode())
        settings, root = SettingsResource(config=str(config)), LakeResource(root=str(lake.root))
        run_pipeline(str(config), lake, [], LineProgress(), fake_resources(settings, root, mixed, 0.3))
    chosen = pq.read_table(str(lake.table(TABLES["star_dataset"]))).to_pylist()[3:6]
    left = [LeftOutRow(r["seed_id"], r["shard"], r["candidate_id"], "min_pi", "pi below 0.9") for r in chosen]
    lake.write_table(LEFT_OUT_ROWS, LEFT_OUT_ROWS.to_arrow(left))
    build_inspection(lake, SPENT)
    return lake


@pytest.fixture(scope="session")
def tables(lake) -> dict[str, pd.DataFrame]:
    """The Parquet files as pandas reads them, each table of shards with its shard; without DuckDB."""
    found = {}
    for name, spec in TABLES.items():
        if spec in SHARD_TABLES:
            parts = [
                pd.DataFrame(pq.read_table(str(lake.table(spec, shard))).to_pylist()).assign(shard=shard)
                for shard in lake.shards_of(spec)
            ]
            found[name] = pd.concat(parts, ignore_index=True)
        elif name != "shard_manifest" and lake.has_table(spec):
            found[name] = pd.DataFrame(pq.read_table(str(lake.table(spec))).to_pylist())
    return found


@pytest.fixture(scope="session")
def ask(lake):
    """SQL to rows as dicts, on the inspection file."""
    with duckdb.connect(str(lake.inspection), read_only=True) as database:

        def rows(sql: str) -> list[dict[str, Any]]:
            relation = database.sql(sql if " " in sql else f"SELECT * FROM {sql}")
            return [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]

        yield rows


@pytest.fixture(scope="session")
def rows(tables):
    """A dict a planned candidate, in the plan's order, with what each stage said of it under the stage's name."""
    of = {}
    for name in ("candidates", "ifd_scores", "judge_verdicts", "composite_scores"):
        records = tables[name].astype(object).to_dict("records")
        of[name] = {row["candidate_id"]: {key: known(value) for key, value in row.items()} for row in records}
    seeds = {row["seed_id"]: row for row in tables["seed_shards"].to_dict("records")}
    found = []
    for plan in tables["sampling_plan"].astype(object).to_dict("records"):
        parts = {name: by_id.get(plan["candidate_id"]) for name, by_id in of.items()}
        found.append({"plan": plan, "pair": plan["pair_id"], "seed": seeds[plan["seed_id"]], **parts})
    for row in found:
        score = row["composite_scores"]
        row["chosen"] = score["selected"] and (score["selection"] != "fallback_seed" or row["pair"] == "seed")
        row["verdict"] = row["judge_verdicts"] and row["judge_verdicts"]["verdict"]
    return found
