"""A Ctrl-C is never lost: neither in an event loop, nor where Dagster forgets it, nor between its runs."""

import asyncio
import os
import signal
import threading

import pytest
from dagster._utils.interrupts import capture_interrupts

from star_pipeline.adapters import event_loop
from star_pipeline.adapters.fakes import HashScorer
from star_pipeline.adapters.interrupts import noticed
from star_pipeline.commands.run import run_pipeline
from star_pipeline.core import tables
from star_pipeline.defs.resources import LakeResource, ProgressResource, ScorerResource, SettingsResource
from star_pipeline_tests.commands.test_run import Lakeside, Notes
from star_pipeline_tests.conftest import fake_resources, seed_rows

OTHERS = []
"""Tasks that nobody waits for."""


class Stopped(BaseException):
    """As Dagster's own is no KeyboardInterrupt."""


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def raising():
    def stop(number, frame):
        raise Stopped

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    yield stop
    for number, handler in before.items():
        signal.signal(number, handler)


async def in_a_callback():
    asyncio.get_running_loop().call_soon(interrupt)


async def in_another_task():
    async def other():
        interrupt()

    OTHERS.append(asyncio.create_task(other()))


async def in_itself():
    interrupt()


async def while_it_waits():
    threading.Timer(0.05, interrupt).start()


@pytest.mark.parametrize("come", [in_a_callback, in_another_task, in_itself, while_it_waits])
def test_work_in_a_loop_is_ended_wherever_the_signal_comes_and_what_is_open_is_closed(raising, come):
    closed = []

    async def work():
        try:
            await come()
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    with pytest.raises(Stopped):
        event_loop.run(work())
    assert closed == [True]
    assert signal.getsignal(signal.SIGINT) is raising
    assert event_loop.run(asyncio.sleep(0, 7)) == 7


def test_work_that_is_done_in_the_same_moment_does_not_hide_the_signal(raising):
    async def work():
        interrupt()
        return 7

    with pytest.raises(Stopped):
        event_loop.run(work())


def test_what_dagster_forgets_is_noticed():
    with noticed() as has_come:
        assert not has_come()
        with capture_interrupts():
            interrupt()
        assert has_come()
        assert has_come()
    with noticed() as has_come:
        assert not has_come()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_run_is_stopped_at_its_next_step_where_python_drops_the_exception(tmp_path):
    """As it does in a ``__del__``: here of what the first shard's scores are made with."""
    beside = Lakeside(tmp_path)
    beside.seeds(seed_rows(8))

    class Dropped:
        def __del__(self):
            interrupt()

    class Small(HashScorer):
        def losses(self, samples, kept_chars, heard=None, groups=None):
            Dropped()
            return super().losses(samples, kept_chars)

    class Scoring(ScorerResource):
        def small(self):
            return Small("small")

        def large(self):
            return HashScorer("large", 1.0)

    settings, root = SettingsResource(config=str(beside.config)), LakeResource(root=str(beside.lake.root))
    fakes = fake_resources(settings, root)
    fakes["scorer"] = Scoring(settings=settings, lake=root, progress=ProgressResource())
    with pytest.raises(KeyboardInterrupt):
        run_pipeline(str(beside.config), beside.lake, [], Notes(), fakes)
    assert beside.lake.shards_of(tables.IFD_SCORES) == beside.lake.catalog_shards()[:1]
    assert beside.lake.shards_of(tables.JUDGE_VERDICTS) == []


def test_a_run_is_stopped_whatever_dagster_does_in_that_moment(tmp_path):
    """The signal comes as soon as the first shard's last table is written: about when Dagster ends the run of the shard."""
    beside = Lakeside(tmp_path)
    beside.seeds(seed_rows(12))
    over = threading.Event()

    def watch():
        while not over.wait(0.001):
            if beside.lake.shards_of(tables.AGENT_PAIR_PROBABILITIES):
                interrupt()
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    with pytest.raises(KeyboardInterrupt):
        beside.run()
    over.set()
    watcher.join()
    assert len(beside.lake.shards_of(tables.AGENT_PAIR_PROBABILITIES)) < len(beside.lake.catalog_shards()) == 3
