"""The instance's settings: written where there are none, brought up to date where nobody has changed them."""

import sys
from pathlib import Path

import pytest

from star_pipeline.adapters.lake import Lake
from star_pipeline.instance.home import DAGSTER_YAML, open_instance, warn_of_another_home
from star_pipeline.instance.queue import ShardLauncher, ShardQueue

REPOSITORY = Path(__file__).parents[2]
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


@pytest.fixture
def code_server(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["dagster", "api", "grpc", "--lazy-load-user-code"])
    monkeypatch.delenv("DAGSTER_HOME", raising=False)


def test_a_server_whose_instance_is_not_the_lakes_says_what_is_lost_and_what_to_do(
    lake, code_server, monkeypatch, caplog, tmp_path
):
    monkeypatch.chdir(REPOSITORY)
    warn_of_another_home(lake)
    assert "lost when Dagster ends" in caplog.text
    assert f"star-pipeline dev --lake {lake.root}" in caplog.text
    assert "killed runs are not tried again" in caplog.text
    caplog.clear()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "elsewhere"))
    warn_of_another_home(lake)
    assert f"kept in DAGSTER_HOME, {tmp_path / 'elsewhere'}" in caplog.text
    assert len(caplog.records) == 1
    caplog.clear()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "dagster.yaml").write_text(DAGSTER_YAML)
    warn_of_another_home(lake)
    assert "kept in DAGSTER_HOME" in caplog.text
    assert "killed runs" not in caplog.text


def test_the_lakes_own_server_and_commands_are_silent(lake, code_server, monkeypatch, caplog):
    monkeypatch.setenv("DAGSTER_HOME", str(lake.dagster_home))
    warn_of_another_home(lake)
    monkeypatch.delenv("DAGSTER_HOME")
    monkeypatch.setattr(sys, "argv", ["star-pipeline", "run"])
    warn_of_another_home(lake)
    assert not caplog.records
