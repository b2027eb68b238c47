"""The event log with its engines kept: the same files as Dagster's own, and not in the way of a user's storage."""

import dagster as dg
import numpy as np
import pytest
import yaml
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.event_log.sqlite import SqliteEventLogStorage

from star_pipeline.adapters.journal.sqlite.journal import SqliteJournal
from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.memory import LanceMemoryBank
from star_pipeline.commands.dev import serve
from star_pipeline.core.errors import ConfigError
from star_pipeline.core.records import MemoryEntry
from star_pipeline.defs.scope import Scope
from star_pipeline.inspection.build import build_inspection, open_inspection
from star_pipeline.instance import open_instance
from star_pipeline.instance.home import DAGSTER_YAML
from star_pipeline.instance.queue import ShardQueue
from star_pipeline.instance.storage import KeptEngines


@pytest.fixture
def lake(tmp_path):
    return Lake.at(tmp_path / "lake")


@dg.asset(partitions_def=Scope().partitions)
def nothing() -> None: ...


def dagsters_own(lake):
    folder = {"base_dir": str(lake.dagster_home / "history" / "runs")}
    storage = {"module": "dagster._core.storage.event_log", "class": "SqliteEventLogStorage", "config": folder}
    ref = InstanceRef.from_dir(str(lake.dagster_home), overrides={"event_log_storage": storage})
    return dg.DagsterInstance.from_ref(ref)


def made(instance):
    return instance.get_materialized_partitions(nothing.key)


def test_many_runs_are_seen_at_once_by_dagsters_own_storage_and_back(lake):
    keys = [f"{number:06d}-x" for number in range(1, 8)]
    with open_instance(lake) as kept, dagsters_own(lake) as own:
        assert isinstance(kept.event_log_storage, KeptEngines)
        assert type(own.event_log_storage) is SqliteEventLogStorage
        for key in keys:
            kept.add_dynamic_partitions(str(Scope().partitions.name), [key])
            run = dg.materialize([nothing], instance=kept, partition_key=key)
            assert made(own) == made(kept) == set(keys[: keys.index(key) + 1])
            # the first runs' engines have been closed by then
            assert len(own.all_logs(run.run_id)) == len(kept.all_logs(run.run_id)) > 5
        assert len(kept.event_log_storage._engines) <= 4
        late = "000008-x"
        assert not kept.has_dynamic_partition(str(Scope().partitions.name), late)
        own.add_dynamic_partitions(str(Scope().partitions.name), [late])
        assert kept.has_dynamic_partition(str(Scope().partitions.name), late)
        kept.delete_dynamic_partition(str(Scope().partitions.name), late)
        assert not kept.has_dynamic_partition(str(Scope().partitions.name), late)
    with open_instance(lake) as again:
        assert made(again) == set(keys)


def test_the_lakes_log_is_below_its_own_home_whatever_dagster_home_says(lake, tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "another"))
    with open_instance(lake) as here:
        here.add_dynamic_partitions(str(Scope().partitions.name), ["000001-x"])
    assert not (tmp_path / "another").exists()
    # as the webserver and the daemon open it
    monkeypatch.setenv("DAGSTER_HOME", str(lake.dagster_home))
    with dg.DagsterInstance.get() as served:
        assert isinstance(served.event_log_storage, KeptEngines)
        assert served.has_dynamic_partition(str(Scope().partitions.name), "000001-x")


def test_a_storage_that_the_user_has_chosen_is_left_alone(lake):
    chosen = lake.root / "elsewhere"
    settings = yaml.safe_load(DAGSTER_YAML)
    for kind in ("event_log", "run", "schedule"):
        del settings[f"{kind}_storage"]
    settings["storage"] = {"sqlite": {"base_dir": str(chosen)}}
    lake.write_bytes(lake.dagster_home / "dagster.yaml", yaml.safe_dump(settings).encode())
    with open_instance(lake) as instance:
        assert type(instance.event_log_storage) is SqliteEventLogStorage
        instance.add_dynamic_partitions(str(Scope().partitions.name), ["000001-x"])
    assert chosen.exists()


ODD = "feature%2Flogin 100% a#b;c&d=e ünï日本 'q' \"q\" {a,b} $HOME file:x C:y@z !x|<y>`z ~"


def test_a_lake_may_have_any_name_that_its_tools_take(tmp_path, monkeypatch):
    lake = Lake.at(tmp_path / ODD)
    with open_instance(lake) as instance:
        instance.add_dynamic_partitions(str(Scope().partitions.name), ["000001-x"])
        dg.materialize([nothing], instance=instance, partition_key="000001-x")
    bank = LanceMemoryBank(lake.local(lake.memory_bank), "e")
    bank.replace_shard("000001-x", [MemoryEntry("s", "c", "000001-x", 1, "i", "a+b", 0.5)], np.ones((1, 4)))
    build_inspection(lake)
    journal = SqliteJournal(lake.journal_folder(None), lake.lake_id)
    assert journal.replies() == 0
    journal.close()
    with open_instance(lake) as again:
        assert again.get_runs_count() == 1
        assert made(again) == {"000001-x"}
    # as Dagster's UI and daemon open it
    monkeypatch.setenv("DAGSTER_HOME", lake.local(lake.dagster_home))
    with dg.DagsterInstance.get() as served:
        assert served.get_runs_count() == 1
        assert served.schedule_storage.all_instigator_state() == []
    with open_inspection(lake) as database:
        assert database.execute("SELECT count(*) FROM candidates").fetchone() == (0,)
    near = LanceMemoryBank(lake.local(lake.memory_bank), "e").nearest(np.ones((1, 4)), 3, 2)
    assert [neighbour.pair_id for neighbour in near[0]] == ["a+b"]
    assert [path.name for path in tmp_path.iterdir()] == [ODD]
    there = {"dagster_home", "inspect.duckdb", "journal", "memory_bank"}
    assert there <= {path.name for path in (tmp_path / ODD).iterdir()}


def test_settings_are_found_below_a_folder_named_like_a_pattern_and_the_ui_says_that_it_cannot(tmp_path):
    lake = Lake.at(tmp_path / "old[x]*")
    with open_instance(lake) as instance:
        assert isinstance(instance.run_coordinator, ShardQueue)
    with pytest.raises(ConfigError, match=r"below a folder with \[, \* or \? in its name"):
        serve("offline", lake, "127.0.0.1", 0)


@pytest.mark.parametrize("name", ["what?now", "back\\slash", "new\nline", "tab\t", "caf\udce9"])
def test_a_lake_that_a_tool_cannot_take_is_refused_at_once_with_the_character(tmp_path, name):
    with pytest.raises(ConfigError, match=r"with '.*' in its name; choose another folder") as error:
        Lake.at(tmp_path / name)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())
