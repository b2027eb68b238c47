"""The lake's lock in a real PostgreSQL: who holds it, and what becomes of it when a process, a session or the server ends."""

import os
import signal
import socket
import subprocess
import sys
import textwrap

import pytest

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.lock import FileLakeLock
from star_pipeline.adapters.locks.database import PostgresLakeLock
from star_pipeline.adapters.postgres import Postgres
from star_pipeline.core.errors import LakeBusy, StorageTrouble
from star_pipeline.core.locking import command_at_work
from star_pipeline.core.tables import REJECTED_ROWS


@pytest.fixture
def lake(tmp_path):
    return Lake.at(tmp_path / "here")


@pytest.fixture
def elsewhere(tmp_path, lake):
    """The same lake in another folder, as another machine with its own workspace has it: its files keep nobody out."""
    other = Lake.at(tmp_path / "elsewhere")
    other.write_bytes(other.journal / "lake_id", lake.lake_id.encode())
    return other


def lock_of(url, lake):
    return PostgresLakeLock(Postgres(url, "STAR_DATABASE"), lake)


def another_process(code, url, lake):
    """A process that has ``lock`` for the lake, and tells a line once it has done ``code``."""
    whole = f"""
        import os, sys
        from star_pipeline.adapters.lake import Lake
        from star_pipeline.adapters.locks.database import PostgresLakeLock
        from star_pipeline.adapters.postgres import Postgres
        lock = PostgresLakeLock(Postgres(sys.argv[1], "STAR_DATABASE"), Lake.at(sys.argv[2]))
        {code}
    """
    command = [sys.executable, "-c", textwrap.dedent(whole), url, str(lake.root)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


HOLDS = "with lock.hold('star-pipeline run'): print('held', flush=True); sys.stdin.read()"


def test_a_second_holder_is_refused_naming_the_first_and_a_killed_one_holds_nothing(postgres_url, lake, elsewhere):
    lock = lock_of(postgres_url, lake)
    with another_process(HOLDS, postgres_url, elsewhere) as first:
        with (
            pytest.raises(LakeBusy, match=rf"is in use by star-pipeline run \(process {first.pid} on "),
            lock.hold("second"),
        ):
            pass
        assert command_at_work(lock).pid == first.pid
        here = socket.gethostname()
        with lock.hold_publishing("second"), lock.hold_study("second"):  # these are others' to hold
            assert [lock.is_held_by(here, pid, "study") for pid in (os.getpid(), first.pid)] == [True, False]
            assert [lock.is_held_by(here, pid) for pid in (os.getpid(), first.pid)] == [False, True]
        assert lock.is_held_by(here, os.getpid(), "study") is False
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        with lock.hold("run 1234", patience_s=60.0):
            assert lock.holder().owner == "run 1234"
            assert command_at_work(lock) is None  # a run of Dagster's own
        assert lock.holder() is None


def test_on_one_machine_the_file_keeps_out_who_was_given_another_configuration(postgres_url, lake):
    with another_process(HOLDS, postgres_url, lake) as first:
        with pytest.raises(LakeBusy, match=f"process {first.pid}"), FileLakeLock(lake).hold("second"):
            pass
        first.stdin.close()


def test_within_one_process_a_lock_may_be_taken_again(postgres_url, lake, elsewhere):
    asks = "print('held' if lock.holder() else 'free', flush=True)"
    with lock_of(postgres_url, lake).hold("outer"):
        with lock_of(postgres_url, lake).hold("inner"):
            pass
        with another_process(asks, postgres_url, elsewhere):
            pass
    assert lock_of(postgres_url, lake).holder() is None


@pytest.mark.parametrize("end", ["session", "server"])
def test_who_has_lost_the_lock_writes_nothing_more_until_it_is_taken_again(
    end, postgres, postgres_url, lake, elsewhere
):
    rows = REJECTED_ROWS.to_arrow([])
    lock, database = lock_of(postgres_url, lake), postgres_url.rsplit("/", 1)[1]
    with lock.hold("star-pipeline run"):
        lake.write_table(REJECTED_ROWS, rows)
        if end == "session":
            sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'star-pipeline run on %%'"
            postgres.query(sql, database=database)
        else:
            postgres.kill()
            postgres.start()
        with pytest.raises(StorageTrouble, match=r"its lock was lost, .*; .*run the same command to go on") as told:
            lake.write_table(REJECTED_ROWS, rows)
        assert "\n" not in str(told.value)
        # somebody else may be at work by now
        lost = pytest.raises(StorageTrouble, match="its lock was lost")
        with lock_of(postgres_url, elsewhere).hold("another"), lost:
            lake.write_bytes(lake.report, b"x")
        with pytest.raises(StorageTrouble, match="its lock was lost"), lock.hold("run 1"):
            pass
    with lock.hold("star-pipeline run"):
        lake.write_table(REJECTED_ROWS, rows)
    lake.write_bytes(lake.report, b"x")  # who holds nothing has nothing to lose


def test_a_server_holds_its_lake_also_as_another_program_until_it_ends(postgres_url, lake, elsewhere):
    code = """lock.hold_for_good("star-pipeline dev at http://x:1"); print("held", flush=True)
        os.execv(sys.executable, [sys.executable, "-c", "import sys; sys.stdin.read()"])"""
    with another_process(code, postgres_url, elsewhere) as server:
        with pytest.raises(LakeBusy, match=f"is served by star-pipeline dev at http://x:1 .process {server.pid} "):
            lock_of(postgres_url, lake).hold_for_good("second")
        with lock_of(postgres_url, lake).hold("run"):  # it keeps no run out
            pass
        server.stdin.close()
    lock_of(postgres_url, lake)._take("server", "third", 60.0, "is served by")
    lock_of(postgres_url, lake)._let_go("server")
