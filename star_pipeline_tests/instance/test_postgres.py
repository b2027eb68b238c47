"""Dagster's storage in a real PostgreSQL: chosen by the configuration, over few connections, and one line where it cannot be used."""

import logging

import dagster as dg
import pytest
import yaml

from star_pipeline.adapters.lake import Lake
from star_pipeline.commands.failed_runs import why_failed
from star_pipeline.core.errors import ConfigError, LakeError
from star_pipeline.defs.scope import Scope
from star_pipeline.instance import open_instance
from star_pipeline.instance.home import CLUSTER_YAML, DAGSTER_YAML
from star_pipeline.instance.queue import ShardLauncher, ShardQueue, runs_at_once
from star_pipeline_tests.postgres_server import missing

VARIABLE = "TEAM_DATABASE"


@pytest.fixture
def lake(tmp_path):
    return Lake.at(tmp_path / "lake")


@pytest.fixture
def database(postgres_url, monkeypatch):
    monkeypatch.setenv(VARIABLE, postgres_url)
    return postgres_url.rpartition("/")[2]


def nine():
    def asset(number):
        @dg.asset(name=f"a{number}", deps=[f"a{number - 1}"] if number else [], partitions_def=Scope().partitions)
        def made() -> None: ...

        return made

    return [asset(number) for number in range(9)]


def test_a_run_is_in_the_database_and_seen_from_another_home_over_few_connections(lake, tmp_path, database, postgres):
    connections = "SELECT sessions FROM pg_stat_database WHERE datname = %s"
    with open_instance(lake, at_the_console=True, database=VARIABLE) as instance:
        assert (type(instance.run_coordinator), type(instance.run_launcher)) == (ShardQueue, ShardLauncher)
        assert runs_at_once(instance, "") == 1
        instance.add_dynamic_partitions(str(Scope().partitions.name), ["000001-x"])
        before = postgres.query(connections, database)[0][0]
        run = dg.materialize(nine(), instance=instance, partition_key="000001-x")
        assert run.success
        assert postgres.query(connections, database)[0][0] - before < 30
    with open_instance(Lake.at(tmp_path / "another"), database=VARIABLE) as elsewhere:
        assert elsewhere.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.SUCCESS
        assert len(elsewhere.all_logs(run.run_id)) > 50
        assert elsewhere.has_dynamic_partition(str(Scope().partitions.name), "000001-x")
    assert not (lake.dagster_home / "history" / "runs.db").exists()


def test_a_server_that_was_away_is_reached_again(lake, database, postgres):
    with open_instance(lake, database=VARIABLE) as instance:
        assert instance.get_runs_count() == 0
        postgres.stop()
        postgres.start()
        assert instance.get_runs_count() == 0


def test_tries_to_connect_are_said_in_one_line(lake, database, caplog):
    from dagster_postgres.utils import DagsterPostgresException, retry_pg_connection_fn
    from sqlalchemy.exc import OperationalError

    from star_pipeline.instance import postgres as ours

    def refused():
        raise OperationalError("SELECT 1", {}, Exception("Connection refused\n\tIs the server running?"))

    fresh = ours._SaidOnce()  # that of the process may have said it to another test
    caplog.handler.addFilter(fresh)
    with pytest.raises(DagsterPostgresException):
        retry_pg_connection_fn(refused, retry_limit=2, retry_wait=0.01)
    [said] = [record.getMessage() for record in caplog.records]
    assert said.startswith("Dagster's PostgreSQL does not answer, and is tried again: ")
    assert "Connection refused" in said
    assert "\n" not in said


def test_a_run_whose_storage_was_away_says_so(lake, database, postgres, monkeypatch):
    monkeypatch.setattr("dagster_postgres.utils.retry_pg_connection_fn.__defaults__", (1, 0.01))  # tries, seconds
    failed = []

    def back_again(record):
        if record.funcName == "retry_pg_connection_fn":
            failed.append(record)
            if len(failed) == 2:  # the last of the first call's tries
                postgres.start()
        return True

    @dg.asset
    def unlucky() -> None:
        postgres.kill()

    logging.getLogger().filters.insert(0, back_again)  # before ours, which drops repeats
    try:
        with open_instance(lake, at_the_console=True, database=VARIABLE) as instance:
            said = why_failed(dg.materialize([unlucky], instance=instance, raise_on_error=False))
    finally:
        logging.getLogger().removeFilter(back_again)
        postgres.start()
    assert "Dagster's storage: " in said
    assert "Connection refused" in said or "terminat" in said
    assert said.endswith("; see that its database runs and can be reached, then run the same command to go on")
    assert "\n" not in said


def test_the_settings_follow_the_configuration_unless_somebody_changed_them(lake, database):
    settings = lake.dagster_home / "dagster.yaml"
    named = CLUSTER_YAML.replace("STAR_DATABASE", VARIABLE)
    mine = CLUSTER_YAML.replace("max_retries: 2", "max_retries: 1").replace("STAR_DATABASE", VARIABLE)
    for before, after in ((DAGSTER_YAML, named), (CLUSTER_YAML, named), (mine, mine)):
        lake.write_bytes(settings, before.encode())
        with open_instance(lake, database=VARIABLE):
            assert settings.read_text() == after
    with open_instance(lake):  # a user's choice for one machine
        assert settings.read_text() == mine


def test_both_settings_differ_in_the_storage_alone():
    local, cluster = yaml.safe_load(DAGSTER_YAML), yaml.safe_load(CLUSTER_YAML)
    differ = {key for key in {*local, *cluster} if local.get(key) != cluster.get(key)}
    assert differ == {"event_log_storage", "run_storage", "schedule_storage"}


def test_a_database_that_cannot_be_used_is_one_line(lake, monkeypatch):
    if missing().startswith("psycopg2"):
        pytest.skip(missing())
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(ConfigError, match=rf"environment variable {VARIABLE} is not set; expected postgresql://"):
        open_instance(lake, database=VARIABLE)
    monkeypatch.setenv(VARIABLE, "postgresql://nobody@127.0.0.1:9/none")
    with pytest.raises(LakeError, match=f"the PostgreSQL that {VARIABLE} names cannot be used") as error:
        open_instance(lake, database=VARIABLE)
    assert "\n" not in str(error.value)
    monkeypatch.setenv(VARIABLE, "not a url")
    with pytest.raises(LakeError, match="expected postgresql://"):
        open_instance(lake, database=VARIABLE)
