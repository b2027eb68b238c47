"""What the bookkeeping costs when LLMs and models are instant fakes: Dagster, tables, checks, plots and the memory bank.

    python -m star_pipeline_tests.benchmarks.bookkeeping [--full]

Five parts: ``run``'s overhead a shard above an empty Dagster job of as many assets, in the same process, by turns;
``run`` end to end in shards of 256 seeds x 5 candidates, each size in a process of its own (wall and CPU seconds, peak
resident memory), and how it grows; the memory bank's exact retrieval against the product of all vectors with numpy;
what a shard's entries cost to write at the tenth shard and at the last of 200, and what the bank takes on disk;
``run`` with Dagster's own event log against the kept engines of ``instance.storage``, by turns, in one process.
``--full`` adds 70,000 seeds. ``--only overhead|growth|memory|bank|event_log`` runs one part.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import yaml

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.memory import LanceMemoryBank
from star_pipeline.commands.run import RunOutcome, run_pipeline
from star_pipeline.core.records import MemoryEntry
from star_pipeline.defs.jobs import LOOP
from star_pipeline.defs.resources import LakeResource, SettingsResource
from star_pipeline.instance import open_instance
from star_pipeline.instance.home import DAGSTER_YAML
from star_pipeline_tests.conftest import CONFIG, fake_resources, seed_rows

_SHARD = 256
_SIZES = (700, 7_000)
_FULL = 70_000
DIMENSIONS = 384
_EMPTY = dg.DynamicPartitionsDefinition(name="empty")


class Silent:
    """A progress that keeps the time of each shard's note."""

    def __init__(self) -> None:
        self.shards: list[tuple[float, float]] = []

    def stage(self, name: str, total: int, later: float = 0.0) -> None: ...

    def advance(self, count: int = 1) -> None: ...

    def note(self, text: str) -> None:
        if text.startswith(("shard ", "publishing")):
            self.shards.append((time.perf_counter(), time.process_time()))


def configuration(folder: Path, shard_size: int) -> Path:
    """Five candidates a seed: the base pair, the seed's own, and three that are drawn."""
    sampling = {"pairs_per_seed": 3, "from_memory": 1, "shard_size": shard_size}
    path = folder / "config.yaml"
    path.write_text(json.dumps({**CONFIG, "sampling": sampling}))
    return path


def prepared(folder: Path, seeds: int) -> Lake:
    lake = Lake.at(folder / "lake")
    lake.prepare()
    lines = (json.dumps({**row, "output": f"{row['output']} " * 8}) for row in seed_rows(seeds))
    lake.write_bytes(lake.seeds / "seeds.jsonl", "\n".join(lines).encode())
    return lake


def run(config: Path, lake: Lake) -> tuple[RunOutcome, Silent]:
    progress = Silent()
    fakes = fake_resources(SettingsResource(config=str(config)), LakeResource(root=str(lake.root)), ease=1.0)
    return run_pipeline(str(config), lake, [], progress, fakes), progress


# (a) overhead a shard


def _empty_assets() -> list[dg.AssetsDefinition]:
    """As many assets as the loop has, each after the one before, that do nothing."""

    def asset(number: int) -> dg.AssetsDefinition:
        @dg.asset(
            name=f"empty_{number}", partitions_def=_EMPTY, deps=[f"empty_{number - 1}"] if number else [], pool="empty"
        )
        def nothing() -> None: ...

        return nothing

    return [asset(number) for number in range(len(LOOP))]


@contextmanager
def empty_job(folder: Path) -> Iterator[Callable[[str], None]]:
    """Runs an empty job for a partition, on an instance like the lake's."""
    job = dg.define_asset_job("empty_job", selection="*", partitions_def=_EMPTY)
    resources = {"io_manager": dg.mem_io_manager}
    defs = dg.Definitions(_empty_assets(), jobs=[job], resources=resources, executor=dg.in_process_executor)
    with open_instance(Lake.at(folder / "empty"), at_the_console=True) as instance:

        def execute(key: str) -> None:
            instance.add_dynamic_partitions(str(_EMPTY.name), [key])
            result = defs.resolve_job_def("empty_job").execute_in_process(
                instance=instance,
                partition_key=key,
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            )
            assert result.success

        yield execute


def overhead(shards: int, shard_size: int) -> float:
    """Print seconds a shard of ``run`` and of the empty job; returns their difference, in wall seconds (median)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _, progress = run(configuration(folder, shard_size), prepared(folder, shards * shard_size))
        ours = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(progress.shards, progress.shards[1:], strict=False)]
        empty = []
        with empty_job(folder) as execute:
            for number in range(shards):
                wall, cpu = time.perf_counter(), time.process_time()
                execute(f"{number:06d}")
                empty.append((time.perf_counter() - wall, time.process_time() - cpu))
    # the first of each imports and warms up
    wall, cpu = (statistics.median(times[place] for times in ours[1:]) for place in (0, 1))
    empty_wall, empty_cpu = (statistics.median(times[place] for times in empty[1:]) for place in (0, 1))
    print(
        f"overhead  {shards} shards of {shard_size}: run {wall:.2f} s a shard (CPU {cpu:.2f}), empty job of {len(LOOP)} assets "
        f"{empty_wall:.2f} s (CPU {empty_cpu:.2f}): {wall - empty_wall:+.2f} s (CPU {cpu - empty_cpu:+.2f}), "
        f"{wall / empty_wall:.1f} times; target at most +1.0 s"
    )
    return wall - empty_wall


# the event log


def dagsters_own_event_log(lake: Lake) -> None:
    """Let the lake's ``dagster.yaml`` name Dagster's own event log, as a user may."""
    settings = yaml.safe_load(DAGSTER_YAML)
    folder = {"base_dir": str(lake.dagster_home / "history" / "runs")}
    own = {"module": "dagster._core.storage.event_log", "class": "SqliteEventLogStorage", "config": folder}
    settings["event_log_storage"] = own
    lake.write_bytes(lake.dagster_home / "dagster.yaml", yaml.safe_dump(settings).encode())


def event_log(shards: int, shard_size: int, turns: int = 2) -> float:
    """Print and return how many times longer a shard takes with Dagster's own event log (median over all shards)."""
    paces: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for turn in range(turns + 1):
        for own in (False, True):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                lake = prepared(folder, shards * shard_size)
                if own:
                    dagsters_own_event_log(lake)
                _, progress = run(configuration(folder, shard_size), lake)
                pairs = zip(progress.shards, progress.shards[1:], strict=False)
                paces[own] += [(b[0] - a[0], b[1] - a[1]) for a, b in pairs] if turn else []  # the first warms up
    kept, plain = ([statistics.median(pace[place] for pace in paces[own]) for place in (0, 1)] for own in (False, True))
    print(
        f"event log {shards} shards of {shard_size}, {turns} turns: kept engines {kept[0]:.2f} s a shard (CPU {kept[1]:.2f}), "
        f"Dagster's own {plain[0]:.2f} s (CPU {plain[1]:.2f}): {plain[0] / kept[0]:.2f} times the time, "
        f"{plain[1] / kept[1]:.2f} times the CPU"
    )
    return plain[0] / kept[0]


# (b) end to end


def peak_mib() -> float:
    """Largest resident memory of this process so far (VmHWM)."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def end_to_end(seeds: int) -> dict[str, float]:
    """In a fresh process: take in, all shards, publish."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lake, config = prepared(folder, seeds), configuration(folder, _SHARD)
        wall, cpu = time.perf_counter(), time.process_time()
        outcome, progress = run(config, lake)
        done = time.perf_counter()
        assert outcome.published
        paces = [after[0] - before[0] for before, after in zip(progress.shards, progress.shards[1:], strict=False)]
        tenth = max(len(paces) // 10, 1)
        return {
            "seeds": seeds,
            "shards": len(outcome.shards),
            "wall": done - wall,
            "cpu": time.process_time() - cpu,
            "peak": peak_mib(),
            "take_in": progress.shards[0][0] - wall,
            "publish": done - progress.shards[-1][0],
            "first": statistics.mean(paces[1 : 1 + tenth]),
            "last": statistics.mean(paces[-1 - tenth : -1] or paces[-1:]),
        }


def growth(sizes: Sequence[int]) -> None:
    before: dict[str, float] = {}
    for seeds in sizes:
        command = [sys.executable, "-m", "star_pipeline_tests.benchmarks.bookkeeping", "--child", str(seeds)]
        reply = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found = json.loads(reply.splitlines()[-1])
        print(
            f"growth    {seeds:,} seeds x 5 in {found['shards']:.0f} shards: {found['wall']:.1f} s (CPU {found['cpu']:.1f}), peak "
            f"{found['peak']:,.0f} MiB; take in {found['take_in']:.1f} s, publish {found['publish']:.1f} s, "
            f"a shard {found['first']:.2f} s at first and {found['last']:.2f} s at last"
        )
        if before:
            print(
                f"          {seeds / before['seeds']:.0f} times the seeds: {found['wall'] / before['wall']:.1f} times the time, "
                f"{found['cpu'] / before['cpu']:.1f} times the CPU, {found['peak'] / before['peak']:.1f} times the memory"
            )
        before = found


# (c) the memory bank


def retrieval(entries: int, queries: int = _SHARD, limit: int = 10) -> float:
    """Print and return ms a seed for ``queries`` at once in a bank of ``entries``, written shard by shard."""
    numbers = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        bank = LanceMemoryBank(name, "m")
        parts, written = [], time.perf_counter()
        for start in range(0, entries, _SHARD):
            number, count = start // _SHARD + 1, min(_SHARD, entries - start)
            vectors = _unit(numbers.normal(size=(count, DIMENSIONS)))
            key = f"{number:06d}-x"
            rows = [
                MemoryEntry(
                    f"s{start + n:06d}", f"c{start + n:06d}", key, number, f"Instruction {n}", f"a+{n % 5}", 0.5
                )
                for n in range(count)
            ]
            bank.replace_shard(key, rows, vectors)
            parts.append(vectors)
        written = (time.perf_counter() - written) / len(parts)
        everything, asked = np.concatenate(parts), _unit(numbers.normal(size=(queries, DIMENSIONS)))
        bank.nearest(asked[:1], limit, len(parts) + 1)
        began, cpu = time.perf_counter(), time.process_time()
        found = bank.nearest(asked, limit, len(parts) + 1)
        wall, cpu = (time.perf_counter() - began) / queries, (time.process_time() - cpu) / queries
        began = time.perf_counter()
        best = np.argsort(-(asked @ everything.T), axis=1)[:, :limit]
        plain = (time.perf_counter() - began) / queries
    exact = [[near.seed_id for near in nearest] for nearest in found] == [[f"s{n:06d}" for n in row] for row in best]
    print(
        f"memory    {entries:,} entries of {DIMENSIONS}: {wall * 1e3:.2f} ms a seed (CPU {cpu * 1e3:.2f}), "
        f"{plain / wall:.1f} times numpy's pace, exact: {exact}; a shard written in {written * 1e3:.0f} ms; target 4 ms at {_FULL:,}"
    )
    assert exact
    return wall * 1e3


def bank_growth(shards: int = 200) -> None:
    """Print what writing a shard costs around the tenth and in the last twenty, and that it is below twice as much."""
    numbers = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        bank, paces = LanceMemoryBank(name, "m"), []
        for number in range(1, shards + 1):
            key = f"{number:06d}-x"
            rows = [MemoryEntry(f"s{number}-{n}", f"c{number}-{n}", key, number, "text", "a+b", 0.5) for n in range(64)]
            vectors = _unit(numbers.normal(size=(64, DIMENSIONS)))
            began = time.perf_counter()
            bank.replace_shard(key, rows, vectors)
            paces.append(time.perf_counter() - began)
        size = sum(path.stat().st_size for path in Path(name).rglob("*") if path.is_file()) / 2**20
    tenth, last = statistics.mean(paces[5:15]), statistics.mean(paces[-20:])
    print(
        f"bank      a shard of 64 written in {tenth * 1e3:.0f} ms at the tenth, {last * 1e3:.0f} ms at the last of {shards} "
        f"({last / tenth:.1f} times, target below 2; the longest {max(paces) * 1e3:.0f} ms); {size:.0f} MiB on disk"
    )


def _unit(vectors: Any) -> Any:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help=f"{_FULL:,} seeds end to end as well")
    parser.add_argument("--only", choices=("overhead", "growth", "memory", "bank", "event_log"))
    parser.add_argument("--shards", type=int, default=12, help="shards for the overhead")
    parser.add_argument("--shard-size", type=int, default=64, help="seeds a shard for the overhead")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(end_to_end(options.child)))
        return
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    if options.only in (None, "overhead"):
        overhead(options.shards, options.shard_size)
    if options.only in (None, "event_log"):
        event_log(options.shards, options.shard_size)
    if options.only in (None, "bank"):
        bank_growth()
    if options.only in (None, "memory"):
        for entries in (7_000, _FULL):
            retrieval(entries)
    if options.only in (None, "growth"):
        growth((*_SIZES, _FULL) if options.full else _SIZES)


if __name__ == "__main__":
    main()
