"""Runs whose process is gone, told from those that live; the processes and their kills are real."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
from contextlib import contextmanager, suppress

import dagster as dg
import psutil
import pytest
from dagster._core.events import EngineEventData
from dagster._core.storage.tags import TagType, get_tag_type

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.lock import FileLakeLock
from star_pipeline.core.errors import LakeError
from star_pipeline.core.locking import command_at_work
from star_pipeline.instance import fail_dead_runs, open_instance
from star_pipeline.instance.processes import HOST_TAG, LAKE_TAG, NAMESPACE_TAG, PID_TAG, process_tags, why_dead
from star_pipeline_tests.elsewhere import kill, on, require_namespaces, told


@pytest.fixture
def lake(tmp_path):
    return Lake.at(tmp_path)


@pytest.fixture
def instance(lake):
    with open_instance(lake) as opened:
        yield opened


@pytest.fixture
def sleeper():
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        yield process
        process.kill()


@dg.op
def nothing():
    pass


@dg.job
def job():
    nothing()


def run_in(instance, pid, tags=None):
    """A run that counts as started, of which Dagster noted the process before its resources were made."""
    run = instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.STARTED)
    instance.report_engine_event(f"Started process for run (pid: {pid}).", run, EngineEventData.in_process(pid))
    return instance.get_run_by_id(run.run_id)


def test_a_run_killed_before_it_could_tag_itself_is_failed(instance, sleeper):
    run = run_in(instance, sleeper.pid)
    assert why_dead(instance, run) is None
    sleeper.kill()
    sleeper.wait()
    assert f"process {sleeper.pid} of this run is gone" in why_dead(instance, run)
    assert fail_dead_runs(instance) == [run.run_id]
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE
    assert fail_dead_runs(instance) == []


def test_a_run_lives_while_its_worker_does_whatever_becomes_of_its_steps_processes(instance, sleeper):
    run = run_in(instance, sleeper.pid)
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as step:
        instance.report_engine_event("Executing step in subprocess.", run, EngineEventData.in_process(step.pid))
        instance.add_run_tags(run.run_id, {**process_tags(), PID_TAG: str(step.pid)})  # by the step's lock on the lake
        run = instance.get_run_by_id(run.run_id)
        step.communicate()
        assert why_dead(instance, run) is None
    sleeper.kill()
    sleeper.wait()
    assert f"process {sleeper.pid} of this run is gone" in why_dead(instance, run)


def test_a_run_tried_again_is_not_taken_for_the_one_whose_tags_it_inherited(instance, sleeper):
    dead = {**process_tags(), PID_TAG: "999999999"}
    assert why_dead(instance, run_in(instance, sleeper.pid, dead)) is None


def test_the_tags_are_hidden_in_the_lists_of_runs_and_those_of_earlier_versions_are_understood(instance, sleeper):
    assert {get_tag_type(name) for name in process_tags()} == {TagType.HIDDEN}
    run = instance.create_run_for_job(job, tags=process_tags(), status=dg.DagsterRunStatus.STARTED)
    assert why_dead(instance, run) is None
    former = {"star/host": socket.gethostname(), "star/pid": "999999999", "star/process_started": "1.00"}
    run = instance.create_run_for_job(job, tags=former, status=dg.DagsterRunStatus.STARTED)
    assert "process 999999999 of this run is gone" in why_dead(instance, run)


def test_a_command_s_runs_are_those_of_the_code_location_that_dev_serves(lake):
    with open_instance(lake, at_the_console=True) as instance:
        assert job.execute_in_process(instance=instance, tags={"mine": "1"}).success
        [run] = instance.get_runs()
    assert run.remote_job_origin.repository_origin.get_label() == "__repository__@star_pipeline.definitions"
    assert (run.tags["mine"], run.tags[".dagster/repository"]) == ("1", "__repository__@star_pipeline.definitions")
    with open_instance(lake) as served:  # as dev and its daemon read them
        assert served.get_runs()[0].remote_job_origin == run.remote_job_origin


HOLDER = """
import json, sys
from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.lock import FileLakeLock
from star_pipeline.instance.processes import process_tags
lake = Lake.at(sys.argv[1])
with FileLakeLock(lake).hold(sys.argv[2]):
    print(json.dumps(process_tags(lake)), flush=True)
    sys.stdin.readline()
print("free", flush=True)
sys.stdin.read()
"""


@contextmanager
def machine(lake, owner):
    """Another machine, whose process holds the lake until it is told to let go; (the process, the tags of its run)."""
    require_namespaces()
    command = on("machine-a", [sys.executable, "-c", HOLDER, str(lake.root), owner])
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process, told(process)
        with suppress(psutil.NoSuchProcess):
            kill(psutil.Process(process.pid))


def test_a_run_on_another_machine_lives_while_that_holds_the_lake(instance, lake):
    with machine(lake, "run 12345678") as (process, tags):
        run = run_in(instance, 999_999_999, tags)
        assert why_dead(instance, run) is None
        assert fail_dead_runs(instance) == []
        with (
            pytest.raises(LakeError, match=r"is in use by run 12345678 \(process \d+ on machine-a,"),
            FileLakeLock(lake).hold("second"),
        ):
            pass
        kill(psutil.Process(process.pid))
        process.wait()
        assert "on machine-a does not hold" in why_dead(instance, run)
        assert fail_dead_runs(instance) == [run.run_id]
        assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE


def test_a_run_on_another_machine_is_dead_when_somebody_else_has_the_lake(instance, lake):
    with machine(lake, "star-pipeline run") as (process, tags):
        kill(psutil.Process(process.pid))
        process.wait()
    run = run_in(instance, 999_999_999, tags)
    with FileLakeLock(lake).hold("star-pipeline run"):
        assert fail_dead_runs(instance, try_again=False) == [run.run_id]


def test_a_run_on_another_machine_that_holds_no_lake_or_one_that_is_not_seen_here_is_left_alone(
    instance, lake, tmp_path
):
    lake.prepare()
    with FileLakeLock(lake).hold("so that there is a lock"):
        pass
    there = {**process_tags(lake), HOST_TAG: "elsewhere"}
    assert "process" in why_dead(instance, run_in(instance, 999_999_999, there))
    for tags in (
        {**there, LAKE_TAG: ""},
        {**there, LAKE_TAG: str(tmp_path / "not mounted")},
        {HOST_TAG: "ShardK8sLauncher"},
    ):
        assert why_dead(instance, run_in(instance, 999_999_999, tags)) is None


def test_a_container_with_our_host_name_has_processes_of_its_own(instance, lake, sleeper):
    theirs = {**process_tags(), NAMESPACE_TAG: "pid:[1]"}
    assert why_dead(instance, run_in(instance, 999_999_999, theirs)) is None
    assert why_dead(instance, run_in(instance, 999_999_999, process_tags())) is not None


def test_a_run_that_lets_go_of_the_lake_just_then_is_not_dead(instance, lake, monkeypatch):
    run = run_in(instance, 999_999_999, {**process_tags(lake), HOST_TAG: "elsewhere"})

    def let_go(*_):
        instance.add_run_tags(run.run_id, {LAKE_TAG: ""})
        return False

    monkeypatch.setattr(FileLakeLock, "is_held_by", let_go)
    assert why_dead(instance, run) is None


def test_a_command_killed_on_another_machine_does_not_keep_the_daemon_from_the_lake(lake):
    with machine(lake, "star-pipeline run") as (process, _):
        assert "on machine-a" in str(command_at_work(FileLakeLock(lake)))
        kill(psutil.Process(process.pid))
        process.wait()
        assert command_at_work(FileLakeLock(lake)) is None


def test_a_command_s_run_tells_from_its_beginning_where_it_lives_and_what_it_holds(lake):
    for held in (True, False):
        with open_instance(lake, at_the_console=True, held=held) as instance:
            run = instance.create_run_for_job(job)
        assert run.tags[HOST_TAG] == socket.gethostname()
        assert run.tags[LAKE_TAG] == (str(lake.root) if held else "")


def test_whoever_does_the_work_itself_keeps_the_daemon_from_trying_again(instance):
    again, not_again = (run_in(instance, 999_999_999) for _ in range(2))
    assert fail_dead_runs(instance, try_again=False)
    for run in (again, not_again):
        assert instance.get_run_by_id(run.run_id).tags["dagster/will_retry"] == "false"
    third = run_in(instance, 999_999_999)
    fail_dead_runs(instance)
    assert instance.get_run_by_id(third.run_id).tags["dagster/will_retry"] == "true"


def test_the_launcher_tells_the_daemon_which_runs_are_dead(instance, sleeper):
    launcher = instance.run_launcher
    assert launcher.check_run_worker_health(run_in(instance, sleeper.pid)).status.value == "RUNNING"
    found = launcher.check_run_worker_health(run_in(instance, 999_999_999))
    assert (found.status.value, "is gone" in found.msg) == ("NOT_FOUND", True)


def test_a_killed_holder_frees_the_lake_at_once(lake):
    lake.prepare()
    code = """
        import sys
        from star_pipeline.adapters.lake import Lake
        from star_pipeline.adapters.lock import FileLakeLock
        with FileLakeLock(Lake.at(sys.argv[1])).hold("star-pipeline run"):
            print("held", flush=True)
            sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(lake.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        holder.stdout.readline()
        assert f"process {holder.pid}" in str(command_at_work(FileLakeLock(lake)))
        with (
            pytest.raises(LakeError, match=f"in use by star-pipeline run .process {holder.pid}"),
            FileLakeLock(lake).hold("second"),
        ):
            pass
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        assert command_at_work(FileLakeLock(lake)) is None
        with FileLakeLock(lake).hold("run 1234"):
            assert command_at_work(FileLakeLock(lake)) is None  # a run of Dagster's own, not of the console
