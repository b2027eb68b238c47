"""The event log with its engines kept: the same files as Dagster's own, and not in the way of a user's storage."""

import dagster as dg
import pytest
import yaml
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.event_log.sqlite import SqliteEventLogStorage

from star_pipeline.adapters.lake import Lake
from star_pipeline.instance import open_instance
from star_pipeline.instance.home import DAGSTER_YAML
from star_pipeline.instance.storage import KeptEngines
from star_pipeline.partitions import SHARDS


@pytest.fixture
def lake(tmp_path):
    return Lake.at(tmp_path / "lake")


@dg.asset(partitions_def=SHARDS)
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
            kept.add_dynamic_partitions(str(SHARDS.name), [key])
            run = dg.materialize([nothing], instance=kept, partition_key=key)
            assert made(own) == made(kept) == set(keys[: keys.index(key) + 1])
            # the first runs' engines have been closed by then
            assert len(own.all_logs(run.run_id)) == len(kept.all_logs(run.run_id)) > 5
        assert len(kept.event_log_storage._engines) <= 4
        late = "000008-x"
        assert not kept.has_dynamic_partition(str(SHARDS.name), late)
        own.add_dynamic_partitions(str(SHARDS.name), [late])
        assert kept.has_dynamic_partition(str(SHARDS.name), late)
        kept.delete_dynamic_partition(str(SHARDS.name), late)
        assert not kept.has_dynamic_partition(str(SHARDS.name), late)
    with open_instance(lake) as again:
        assert made(again) == set(keys)


def test_the_lakes_log_is_below_its_own_home_whatever_dagster_home_says(lake, tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "another"))
    with open_instance(lake) as here:
        here.add_dynamic_partitions(str(SHARDS.name), ["000001-x"])
    assert not (tmp_path / "another").exists()
    # as the webserver and the daemon open it
    monkeypatch.setenv("DAGSTER_HOME", str(lake.dagster_home))
    with dg.DagsterInstance.get() as served:
        assert isinstance(served.event_log_storage, KeptEngines)
        assert served.has_dynamic_partition(str(SHARDS.name), "000001-x")


def test_a_storage_that_the_user_has_chosen_is_left_alone(lake):
    chosen = lake.root / "elsewhere"
    settings = yaml.safe_load(DAGSTER_YAML)
    del settings["event_log_storage"]
    settings["storage"] = {"sqlite": {"base_dir": str(chosen)}}
    lake.write_bytes(lake.dagster_home / "dagster.yaml", yaml.safe_dump(settings).encode())
    with open_instance(lake) as instance:
        assert type(instance.event_log_storage) is SqliteEventLogStorage
        instance.add_dynamic_partitions(str(SHARDS.name), ["000001-x"])
    assert chosen.exists()
