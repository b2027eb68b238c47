"""What two threads need is computed once; a lock that nobody overtakes at."""

import threading
import time

import pytest

from star_pipeline.adapters.fair_lock import FairLock
from star_pipeline.adapters.once import Abandoned, Once, Relay
from star_pipeline_tests.commands.test_run import Notes


class Bars(Notes):
    def __init__(self):
        super().__init__()
        self.stages, self.steps = [], 0

    def stage(self, name, total, later=0.0):
        self.stages.append((name, total))
        self.steps = 0

    def advance(self, count=1):
        self.steps += count


def until(happens):
    end = time.monotonic() + 60
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.001)


def in_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_the_second_waits_for_the_first_sees_how_far_it_is_and_computes_nothing():
    once, go, half = Once(), threading.Event(), threading.Event()
    ended, bars, computed, got = threading.Event(), Bars(), [], []
    relay = Relay(Notes(), ended)

    heard, heard_first = [], []

    def compute(told):
        computed.append(1)
        relay.stage("scoring", 10)
        relay.advance(4)
        told(0, 1.0)
        half.set()
        assert go.wait(120)
        relay.advance(6)
        told(1, 2.0)
        return [1.0, 2.0]

    def hear(number, loss):
        heard.append((number, loss))

    first = in_thread(
        lambda: got.append(once.get(["texts"], compute, relay, heard=lambda *part: heard_first.append(part)))
    )
    assert half.wait(120)
    second = in_thread(lambda: got.append(once.get(["texts"], compute, Relay(Notes(), ended), bars, hear)))
    until(lambda: bars.steps == 4 and heard)
    assert heard == [(0, 1.0)]  # at once, though it was told before
    go.set()
    for thread in (first, second):
        thread.join()
    assert (got, computed, bars.stages, bars.steps) == ([[1.0, 2.0]] * 2, [1], [("scoring", 10)], 10)
    assert heard == heard_first == [(0, 1.0), (1, 2.0)]
    assert once.get(["other texts"], lambda told: 3) == 3


def test_where_the_first_fails_who_waits_computes_and_meets_the_error_itself():
    once, go, begun, got = Once(), threading.Event(), threading.Event(), []

    def fails(told):
        begun.set()
        assert go.wait(120)
        raise ValueError("ahead")

    def first():
        with pytest.raises(ValueError, match="ahead"):
            once.get(["x"], fails)

    ahead = in_thread(first)
    assert begun.wait(120)
    waits = in_thread(lambda: got.append(once.get(["x"], lambda told: "computed")))
    time.sleep(0.05)
    go.set()
    for thread in (ahead, waits):
        thread.join()
    assert got == ["computed"]


def test_what_differs_in_one_part_is_another_question():
    once = Once()
    asked = [
        ["a", ["b", "c"]],
        ["a", ["b"], "c"],
        ["a", ["bc"]],
        ["ab", ["c"]],
        [["a"], "b", "c"],
        ["a", ["b", "\ud800"]],
    ]
    assert [once.get(of, lambda told, number=number: number) for number, of in enumerate(asked)] == [*range(len(asked))]


def test_only_so_many_results_are_kept():
    once = Once(2)
    for number in range(5):
        once.get([number], lambda told, number=number: number)
    assert once.get([4], lambda told: "anew") == 4
    assert once.get([0], lambda told: "anew") == "anew"


def test_what_is_computed_stops_when_the_run_has_ended():
    ended = threading.Event()
    relay = Relay(Notes(), ended)
    relay.advance()
    ended.set()
    with pytest.raises(Abandoned):
        relay.advance()


def test_a_thread_that_takes_short_turns_lets_others_between_them():
    lock, turns, held = FairLock(), [], threading.Event()

    def take(name, most):
        for number in range(5):
            with lock, lock:  # it may be taken again
                held.set()
                if number < most:
                    until(lambda: lock._waiting)  # the other one
                turns.append(name)

    thread = in_thread(lambda: take("busy", 5))
    assert held.wait(60)
    take("other", 4)  # at its last turn nobody waits any more
    thread.join()
    assert turns == ["busy", "other"] * 5


def test_a_wait_that_is_interrupted_gives_its_place_up():
    lock, held, go = FairLock(), threading.Event(), threading.Event()

    def holder():
        with lock:
            held.set()
            assert go.wait(120)

    class Interrupted(Exception): ...

    thread = in_thread(holder)
    assert held.wait(120)
    import signal

    def interrupt(*_):
        raise Interrupted

    def interrupt_who_waits():
        until(lambda: lock._waiting)
        time.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, interrupt)
    interrupts = in_thread(interrupt_who_waits)
    try:
        with pytest.raises(Interrupted), lock:
            pass
    finally:
        signal.signal(signal.SIGALRM, before)
    interrupts.join()
    go.set()
    thread.join()
    with lock:
        pass
