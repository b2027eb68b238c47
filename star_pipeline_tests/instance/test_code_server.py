"""A run whose code server is on another host is told by that server: a real one, at an address that is not this machine's usual one."""

import time

import dagster as dg
import pytest
from dagster._core.utils import make_new_run_id
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import GrpcServerTarget

from star_pipeline.adapters.lake import Lake
from star_pipeline.instance import open_instance
from star_pipeline.instance.processes import HOST_TAG, why_dead
from star_pipeline_tests.daemon import code_server
from star_pipeline_tests.ports import free_port

HOST, NAME = "127.0.0.2", "elsewhere"
JOB = """
import dagster as dg, time
@dg.op
def sleeps():
    time.sleep(600)
@dg.job(executor_def=dg.in_process_executor)
def sleepy():
    sleeps()
defs = dg.Definitions(jobs=[sleepy])
"""


def at(folder, port):
    return code_server(["-f", str(folder / "job.py")], HOST, port, folder / "server.log", cwd=folder)


def launched(instance, port):
    with WorkspaceProcessContext(
        instance, GrpcServerTarget(host=HOST, port=port, socket=None, location_name=NAME)
    ) as process:
        workspace = process.create_request_context()
        [repository] = workspace.get_code_location(NAME).get_repositories().values()
        job = repository.get_full_job("sleepy")
        run = instance.create_run(
            job_name=job.name, run_id=make_new_run_id(), run_config={}, status=dg.DagsterRunStatus.NOT_STARTED, tags={},
            root_run_id=None, parent_run_id=None, step_keys_to_execute=None, execution_plan_snapshot=None,
            job_snapshot=job.job_snapshot, parent_job_snapshot=None, asset_selection=None, asset_check_selection=None,
            resolved_op_selection=None, op_selection=None, remote_job_origin=job.get_remote_origin(),
            job_code_origin=job.get_python_origin(), asset_graph=repository.asset_graph,
        )  # fmt: skip  # all that it asks for
        instance.launch_run(run.run_id, workspace)
    return run.run_id


@pytest.mark.slow
def test_a_run_lives_while_its_server_knows_it_and_is_dead_for_a_server_that_was_started_anew(tmp_path):
    (tmp_path / "job.py").write_text(JOB)
    port = free_port()
    with open_instance(Lake.at(tmp_path / "lake")) as instance:
        with at(tmp_path, port) as server:
            run_id = launched(instance, port)
            until = time.monotonic() + 600
            while instance.get_run_by_id(run_id).status != dg.DagsterRunStatus.STARTED and time.monotonic() < until:
                time.sleep(0.2)
            run = instance.get_run_by_id(run_id)
            assert (run.status, run.tags[HOST_TAG]) == (dg.DagsterRunStatus.STARTED, HOST)
            assert why_dead(instance, run) is None  # its process is not looked for on this machine
            assert instance.run_launcher.check_run_worker_health(run).status.value == "RUNNING"
            server.kill()  # and the run's process, as its machine dies
            # nobody answers: that tells nothing
            assert instance.run_launcher.check_run_worker_health(run).status.value == "RUNNING"
        with at(tmp_path, port):
            found = instance.run_launcher.check_run_worker_health(run)
            assert (found.status.value, "does not know its process" in found.msg) == ("NOT_FOUND", True)
            instance.report_run_failed(run)
            assert (
                instance.run_launcher.check_run_worker_health(run).status.value == "RUNNING"
            )  # it has ended meanwhile
