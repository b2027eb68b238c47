"""What grows how, with seeds and shards: python -m star_pipeline_tests.benchmarks.growth [--only run|catalogue|keys|bank|storage]

``run``: seeds through the loop in steps (chat, journal, tables, memory bank and Dagster are real, scorer and embedder instant fakes);
after each step the rows and bytes of journal, tables, bank and Dagster's storage, fitted by a line, and what a million and 100 million
seeds come to by it. ``--postgres`` keeps Dagster's storage and the journal in a throwaway PostgreSQL.
``catalogue``: its size, and the time to read it. ``keys``: Dagster's partition keys, one a shard. ``bank``: exact retrieval for a
shard, by the bank's rows. ``storage``: a run of nine empty assets by Dagster's storage, and the connections that it makes.
Seconds are this process's CPU seconds, which hold on a busy machine.
"""

import argparse
import contextlib
import json
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.memory import LanceMemoryBank
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.commands.run import run_pipeline
from star_pipeline.core.records import CatalogEntry, MemoryEntry
from star_pipeline.core.tables import SEED_CATALOG
from star_pipeline.defs.resources import LakeResource, SettingsResource
from star_pipeline.defs.scope import Scope
from star_pipeline.instance import open_instance
from star_pipeline.instance.home import CLUSTER_YAML, DAGSTER_YAML
from star_pipeline_tests import postgres_server
from star_pipeline_tests.conftest import CONFIG, fake_resources
from star_pipeline_tests.llm_server import Reply, chat_server

_JOURNAL = """
SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = 'star_journal' AND c.relkind = 'r'
"""
_SCALES = (1_000_000, 100_000_000)
_WORDS = [
    "data",
    "model",
    "table",
    "query",
    "seed",
    "agent",
    "score",
    "lake",
    "shard",
    "budget",
    "token",
    "prompt",
    "loss",
    "judge",
]
DIMENSIONS = 384


def text(rng: np.random.Generator, words: int) -> str:
    return " ".join(rng.choice(_WORDS, words))


def seeds(count: int, start: int) -> list[dict[str, str]]:
    """Of the size of Alpaca's longer ones: 25 words of instruction, 120 of response."""
    rng = np.random.default_rng(start)
    return [
        {"instruction": f"{start + n} {text(rng, 25)}", "input": "", "output": text(rng, 120)} for n in range(count)
    ]


def answer(asked: dict[str, Any]) -> Reply:
    said = asked["messages"][-1]["content"]
    rng = np.random.default_rng(len(said))
    if "Final Verdict" in said:
        return Reply(f"{text(rng, 60)}\n[{'ABC'[len(said) % 3]}]")
    return Reply(f"{asked['model']}: {text(rng, 120)} {said[-40:]}")


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def rows_in_sqlite(folder: Path, table: str) -> int:
    count = 0
    for path in folder.rglob("*.db"):
        with contextlib.closing(sqlite3.connect(path)) as database:
            found = database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone()
            count += database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] if found else 0
    return int(count)


def measured(lake: Lake, server: postgres_server.PostgresServer | None) -> dict[str, float]:
    """Rows and bytes, by what they are of."""
    root = Path(str(lake.root))
    found: dict[str, float] = {}
    for path in sorted((root / "tables").iterdir()):
        found[f"{path.stem}, bytes"] = size_of(path) if path.is_dir() else path.stat().st_size
    if server:
        name = os.environ["STAR_DATABASE"].rpartition("/")[2]
        found["journal, bytes"] = float(server.query(_JOURNAL, database=name)[0][0])
        found["journal, replies"] = server.query("SELECT count(*) FROM star_journal.reply", database=name)[0][0]
    else:
        found["journal, bytes"] = size_of(root / "journal")
        with contextlib.closing(sqlite3.connect(next((root / "journal").rglob("*.sqlite")))) as database:
            found["journal, replies"] = database.execute("SELECT count(*) FROM reply").fetchone()[0]
    found["memory bank, bytes"] = size_of(root / "memory_bank")
    found["final data set, bytes"] = size_of(root / "star_dataset")
    if server:
        size = float(server.query("SELECT pg_database_size(%s)", name)[0][0])
        found["Dagster in PostgreSQL, bytes"] = size - found["journal, bytes"]
        found["Dagster, events"] = server.query("SELECT count(*) FROM event_logs", database=name)[0][0]
    else:
        found["Dagster in SQLite, bytes"] = size_of(root / "dagster_home")
        found["Dagster, events"] = rows_in_sqlite(root / "dagster_home" / "history" / "runs", "event_logs")
        found["Dagster, files"] = sum(1 for _ in (root / "dagster_home" / "history").rglob("*.db"))
    return found


def fitted(shards: Sequence[int], values: Sequence[float]) -> tuple[float, float, float]:
    """(at none, per shard, share of the variance that the line explains)."""
    slope, base = np.polyfit(shards, values, 1)
    left = np.var(np.asarray(values) - (base + slope * np.asarray(shards)))
    whole = np.var(values)
    return float(base), float(slope), float(1 - left / whole) if whole else 1.0


def growth(steps: int, shards: int, size: int, server: postgres_server.PostgresServer | None) -> None:
    with tempfile.TemporaryDirectory() as place, chat_server(answer) as llm:
        config, lake = Path(place) / "config.yaml", Lake.at(Path(place) / "lake")
        agents = {name: {"model": f"hosted_vllm/{name}", "api_base": llm.url} for name in "ab"}
        settings = {**CONFIG, "agents": agents, "sampling": {**CONFIG["sampling"], "shard_size": size}}
        if server:
            os.environ["STAR_DATABASE"] = server.database()
            settings["journal"] = {"postgres_env": "STAR_DATABASE"}
        config.write_text(json.dumps(settings))
        lake.prepare()
        fakes = fake_resources(SettingsResource(config=str(config)), LakeResource(root=str(lake.root)), ease=1.0)
        models = {name: fakes[name] for name in ("scorer", "embedder")}
        done: list[int] = []
        seen: list[dict[str, float]] = []
        for step in range(steps):
            lake.write_bytes(
                lake.seeds / f"part{step:04}.json", json.dumps(seeds(size * shards, step * size * shards)).encode()
            )
            began = time.process_time()
            run_pipeline(str(config), lake, [], SilentProgress(), models)
            worked = time.process_time() - began
            began = time.process_time()
            run_pipeline(str(config), lake, [], SilentProgress(), models)
            done.append((step + 1) * shards)
            seen.append({**measured(lake, server), "seconds of a run without work": time.process_time() - began})
            print(f"{done[-1]} shards: {worked / shards:.1f} s each", flush=True)
    print(f"\n{size} seeds a shard, {done[-1]} shards; a line through {steps} points")
    print(f"{'':34}{'a shard':>14}{'a seed':>12}{'fit R2':>8}" + "".join(f"{scale:>18,}" for scale in _SCALES))
    for name in seen[0]:
        base, slope, explained = fitted(done, [one[name] for one in seen])
        at = "".join(f"{base + slope * scale / size:18,.0f}" for scale in _SCALES)
        print(f"{name:34}{slope:14,.3f}{slope / size:12,.2f}{explained:8.4f}{at}")


def timed(what: Callable[[], Any]) -> float:
    """CPU seconds, the best of three."""
    took = []
    for _ in range(3):
        began = time.process_time()
        what()
        took.append(time.process_time() - began)
    return min(took)


def catalogue(sizes: Sequence[int]) -> None:
    print("seeds       bytes        write s   shards of all s   all rows s")
    for count in sizes:
        with tempfile.TemporaryDirectory() as place:
            lake = Lake.at(place)
            lake.prepare()
            rows = [
                CatalogEntry(f"{n:032x}", f"{n // 64:06d}-seeds", n % 64, "seeds.jsonl", n, True) for n in range(count)
            ]
            table = SEED_CATALOG.to_arrow(rows)
            del rows
            wrote = timed(lambda lake=lake, table=table: lake.write_table(SEED_CATALOG, table))
            read = timed(lambda lake=lake: fresh(lake))
            whole = timed(lake.catalog_rows)
            size = lake.table(SEED_CATALOG).stat().st_size
            print(f"{count:<12,}{size:<13,}{wrote:<10.2f}{read:<18.2f}{whole:.2f}", flush=True)


def fresh(lake: Lake) -> None:
    from star_pipeline.adapters import lake as module

    module._catalog_shards.cache_clear()
    lake.catalog_shards()


def keys(sizes: Sequence[int]) -> None:
    @dg.asset(partitions_def=Scope().partitions)
    def nothing() -> None: ...

    name = str(Scope().partitions.name)
    print("keys         all keys s   which are there s (1 in 100 is)")
    with tempfile.TemporaryDirectory() as place, open_instance(Lake.at(place)) as instance:
        before = 0
        for count in sizes:
            added = [f"{n:06d}-seeds" for n in range(before, count)]
            for start in range(0, len(added), 500):
                instance.add_dynamic_partitions(name, added[start : start + 500])
            for key in added[::100]:
                instance.report_runless_asset_event(dg.AssetMaterialization(nothing.key, partition=key))
            before = count
            got = timed(lambda instance=instance: instance.get_dynamic_partitions(name))
            there = timed(lambda instance=instance: instance.get_materialized_partitions(nothing.key))
            print(f"{count:<13,}{got:<13.3f}{there:.3f}", flush=True)


def bank(sizes: Sequence[int]) -> None:
    print("rows         bytes           64 queries s")
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as place:
        made, before = LanceMemoryBank(place, "e"), 0
        for number, count in enumerate(sizes):
            vectors = rng.normal(size=(count - before, DIMENSIONS)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            shard = f"{number + 1:06d}-seeds"
            entries = [
                MemoryEntry(f"{n:032x}", f"c{n}", shard, number + 1, "an instruction", "a+b", 0.5)
                for n in range(before, count)
            ]
            made.replace_shard(shard, entries, vectors)
            before = count
            took = timed(lambda vectors=vectors, number=number: made.nearest(vectors[:64], 10, number + 2))
            print(f"{count:<13,}{size_of(Path(place)):<16,}{took:.3f}", flush=True)


def storage(server: postgres_server.PostgresServer | None) -> None:
    def empty(number: int) -> dg.AssetsDefinition:
        @dg.asset(name=f"a{number}", deps=[f"a{number - 1}"] if number else [], partitions_def=Scope().partitions)
        def made() -> None: ...

        return made

    assets = [empty(number) for number in range(9)]
    dagsters_own = CLUSTER_YAML
    for kind, name in (("event_log", "EventLog"), ("run", "Run"), ("schedule", "Schedule")):
        ours = {"event_log": "Events", "run": "Runs", "schedule": "Schedules"}[kind]
        dagsters_own = dagsters_own.replace(
            f"star_pipeline.instance.postgres\n  class: {ours}", f"dagster_postgres\n  class: Postgres{name}Storage"
        )
    told = {"SQLite, ours": DAGSTER_YAML, "PostgreSQL, ours": CLUSTER_YAML, "PostgreSQL, Dagster's": dagsters_own}
    for name, settings in told.items() if server else ():
        with tempfile.TemporaryDirectory() as place:
            os.environ["STAR_DATABASE"] = server.database().replace("postgresql:", "postgresql+psycopg2:")
            database = os.environ["STAR_DATABASE"].rpartition("/")[2]
            lake = Lake.at(place)
            lake.prepare()
            lake.write_bytes(lake.dagster_home / "dagster.yaml", settings.encode())
            with open_instance(lake, at_the_console=True) as instance:
                instance.add_dynamic_partitions(str(Scope().partitions.name), ["000001-x"])

                def sessions(database: str = database) -> int:
                    asked = "SELECT sessions FROM pg_stat_database WHERE datname = %s"
                    return int(server.query(asked, database)[0][0])

                before = sessions()
                took = timed(
                    lambda instance=instance: dg.materialize(assets, instance=instance, partition_key="000001-x")
                )
                print(f"{name:24}{took:6.2f} s{(sessions() - before) / 3:8.0f} connections a run", flush=True)


@contextlib.contextmanager
def database(wanted: bool) -> Iterator[postgres_server.PostgresServer | None]:
    if not wanted:
        yield None
        return
    if why := postgres_server.missing():
        raise SystemExit(why)
    with postgres_server.serving() as server:
        yield server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["run", "catalogue", "keys", "bank", "storage"])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--shards", type=int, default=4, help="in each step")
    parser.add_argument("--shard-size", type=int, default=64)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--most", type=int, default=1_000_000, help="seeds in the largest catalogue")
    args = parser.parse_args()
    if args.only in (None, "run"):
        with database(args.postgres) as server:
            growth(args.steps, args.shards, args.shard_size, server)
    if args.only in (None, "catalogue"):
        catalogue([args.most // 100, args.most // 10, args.most])
    if args.only in (None, "keys"):
        keys([1_000, 10_000, 50_000])
    if args.only in (None, "bank"):
        bank([10_000, 30_000, 100_000])
    if args.only in (None, "storage"):
        with database(not postgres_server.missing()) as server:
            storage(server)


if __name__ == "__main__":
    main()
