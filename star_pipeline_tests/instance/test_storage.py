"""The event log with its engines kept: the same files as Dagster's own, and not in the way of a user's storage."""

import dagster as dg
import pytest
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


def made(instance):
    return instance.get_materialized_partitions(nothing.key)


def test_many_runs_at_the_console_are_seen_at_once_by_dagsters_own_storage_and_back(lake):
    keys = [f"{number:06d}-x" for number in range(1, 8)]
    with open_instance(lake, at_the_console=True) as kept, open_instance(lake) as own:
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
    with open_instance(lake, at_the_console=True) as again:
        assert made(again) == set(keys)


def test_a_storage_that_the_user_has_chosen_is_left_alone(lake):
    chosen = lake.root / "elsewhere"
    settings = f"{DAGSTER_YAML}storage:\n  sqlite:\n    base_dir: {chosen}\n"
    lake.write_bytes(lake.dagster_home / "dagster.yaml", settings.encode())
    with open_instance(lake, at_the_console=True) as instance:
        assert not isinstance(instance.event_log_storage, KeptEngines)
        instance.add_dynamic_partitions(str(SHARDS.name), ["000001-x"])
    assert chosen.exists()
