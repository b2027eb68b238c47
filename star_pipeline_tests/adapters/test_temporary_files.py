"""What is half made: of a process that lives it stays, however long it stands still, and of one that is gone it goes."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager

import pytest

from star_pipeline.adapters.lake import Lake, whole_file
from star_pipeline.adapters.temporary_files import unfinished

WRITER = """
    import sys
    from pathlib import Path
    from star_pipeline.adapters.temporary_files import unfinished
    with unfinished(Path(sys.argv[1])) as place:
        place.write_text("half")
        print("half", flush=True)
        sys.stdin.readline()
        place.write_text("whole")
    print("whole", flush=True)
"""
PLACES = ("report.html", "seeds/more.json", "star_dataset/star_dataset.parquet", "tables/candidates/000001-x.parquet",
          "inspect.duckdb", "journal/lake_id", "dagster_home/dagster.yaml")  # fmt: skip  # read as a table


@pytest.fixture
def lake(tmp_path):
    made = Lake.at(tmp_path)
    made.prepare()
    return made


@contextmanager
def writer(path):
    """A process that has written half of a file, and goes on once it is told a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "half\n"
        yield process
        process.kill()


def left_in(lake):
    return list(lake.root.rglob(".*.partial*"))


def test_a_publisher_that_stands_still_keeps_what_it_has_half_written_while_another_process_sweeps(lake):
    goal = lake.inspection
    with writer(goal) as process:
        process.send_signal(signal.SIGSTOP)
        lake.sweep()
        subprocess.run(
            [sys.executable, "-c", "import sys; from star_pipeline.adapters.lake import Lake; Lake.at(sys.argv[1]).sweep()", lake.root],
            check=True,
        )  # fmt: skip  # read as a table
        process.send_signal(signal.SIGCONT)
        process.stdin.write("go on\n")
        process.stdin.flush()
        assert process.stdout.readline() == "whole\n"
    assert (goal.read_text(), left_in(lake)) == ("whole", [])


def test_what_a_killed_process_left_is_swept_wherever_it_was(lake):
    for place in PLACES:
        with writer(lake.root / place) as process:
            process.kill()
            process.wait()
    assert len(left_in(lake)) == len(PLACES)
    lake.sweep()
    assert left_in(lake) == []


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(lake):
    lake.write_bytes(lake.report, b"old")

    def interrupted():
        with whole_file(lake.report) as file:
            file.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (lake.report.read_bytes(), left_in(lake)) == (b"old", [])


def test_another_machines_is_left_for_a_day(lake):
    with writer(lake.report) as process:
        process.kill()
        process.wait()
    [left] = left_in(lake)
    foreign = left.rename(left.with_name(left.name.replace(left.name[1:9], "0" * 8)))
    lake.sweep()
    assert foreign.exists()
    os.utime(foreign, (time.time() - 25 * 3600,) * 2)
    lake.sweep()
    assert not foreign.exists()


def test_what_an_earlier_version_left_goes_by_its_process_and_a_number_given_anew_does_not_keep_it(lake):
    old, reused, alive = (lake.root / f".x.{pid}.partial" for pid in (2**22 + 1, os.getpid(), os.getppid()))
    for path in (old, reused, alive):
        path.write_bytes(b"half")
    os.utime(reused, (time.time() - 12 * 3600,) * 2)  # before this process began
    lake.sweep()
    assert [path.exists() for path in (old, reused, alive)] == [False, False, True]


def test_a_name_as_long_as_the_system_takes_can_be_written(lake):
    goal = lake.root / ("n" * 255)
    with unfinished(goal) as place:
        place.write_bytes(b"x")
    assert goal.read_bytes() == b"x"
