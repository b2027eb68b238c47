"""The instance's settings: written where there are none, brought up to date where nobody has changed them."""

import pytest

from star_pipeline.adapters.lake import Lake
from star_pipeline.instance.home import DAGSTER_YAML, open_instance
from star_pipeline.instance.queue import ShardLauncher, ShardQueue

FORMER = """\
# Written once by star-pipeline; yours to change.
telemetry:
  enabled: false
nux:
  enabled: false
concurrency:
  pools:
    granularity: run
    default_limit: 1
run_retries:
  enabled: true
  max_retries: 0
"""


@pytest.fixture
def lake(tmp_path):
    return Lake.at(tmp_path)


def test_a_fresh_lake_gets_queue_launcher_retries_and_the_pools_limit(lake):
    with open_instance(lake) as instance:
        assert isinstance(instance.run_coordinator, ShardQueue)
        assert isinstance(instance.run_launcher, ShardLauncher)
        assert (instance.run_retries_enabled, instance.run_retries_max_retries) == (True, 2)
        assert not instance.run_retries_retry_on_asset_or_op_failure
        assert instance.run_monitoring_enabled
        assert instance.get_concurrency_config().pool_config.pool_granularity.value == "run"
        assert instance.get_runs_count() == 0


def test_settings_of_an_earlier_version_are_replaced_unless_somebody_changed_them(lake):
    settings = lake.dagster_home / "dagster.yaml"
    changed = FORMER.replace("max_retries: 0", "max_retries: 1")
    for before, after in ((FORMER, DAGSTER_YAML), (changed, changed)):
        lake.write_bytes(settings, before.encode())
        with open_instance(lake):
            assert settings.read_text() == after
