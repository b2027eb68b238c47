"""Replicas, and batches on their way to them: an own queue over ``ray.wait``.

Ray restarts no actor and repeats no task here: its own retries wait without end for a machine that is gone. A replica that is lost
gives its batches back, and others take them. Who is lost is replaced when losses are next asked for, so that a batch which ends
every process that takes it ends the run too.
"""

import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from star_pipeline.adapters.scoring.batch_plan import ExecutionModes
from star_pipeline.adapters.scoring.batch_work import Batches
from star_pipeline.adapters.scoring.numerics import Numerics
from star_pipeline.adapters.scoring.replicas import cluster
from star_pipeline.adapters.scoring.replicas.cluster import Machine
from star_pipeline.adapters.scoring.replicas.replica import (
    EmbeddingModel,
    Loaded,
    LoadedEmbedding,
    Refusal,
    Replica,
    ReplicaModel,
)
from star_pipeline.config.scoring import KeepLoaded, RayConfig, ScoringConfig
from star_pipeline.core.errors import ModelError, in_short

_IN_FLIGHT = 2
"""Batches at a replica: one that it computes, and one that waits there for it."""
_BEAT_S, _SILENT_S = 0.5, 15.0
"""How often it is looked whether a replica is late; how long the cluster's head may take no connection."""

Tell = Callable[[str], None]
Model = ReplicaModel | EmbeddingModel
Shown = Loaded | LoadedEmbedding
Send = Callable[[Any, list[int]], Any]
"""Ask an actor for a batch; gives Ray's reference to the answer."""
Judge = Callable[[Any], str]
"""Why a replica that gives this cannot take part; empty where it can."""


@dataclass(eq=False)
class _Seat:
    """A replica, and what it is asked for: task → the batch, or the model that it loads, or None while it starts."""

    machine: Machine
    actor: Any
    since: float
    started: bool = False
    loaded: dict[Model, Shown] = field(default_factory=dict)
    tasks: dict[Any, list[int] | Model | None] = field(default_factory=dict)

    @property
    def in_flight(self) -> int:
        return sum(isinstance(asked, list) for asked in self.tasks.values())


class ReplicaPool:
    """The replicas of one kind, each of which holds the models that it is asked for. One thread computes at a time."""

    def __init__(self, settings: RayConfig, numerics: Numerics, keep: KeepLoaded) -> None:
        self._settings, self._keep = settings, keep
        self._numerics = numerics if numerics.device == "cpu" else replace(numerics, threads=1)
        self._seats: list[_Seat] = []
        self._looked_at: dict[str, str] = {}
        """Machine → why it is not used; empty where it is."""
        self._last_words = ""
        self._judges: dict[Model, Judge] = {}
        self._heard = time.monotonic()
        self.turn = threading.RLock()
        self.tell: Tell = lambda text: None

    def ready(self, model: Model, judge: Judge, everyone: bool = False) -> Shown:
        """What the model is at the first replica that holds it; the others come to it as they get ready, unless ``everyone`` is
        waited for.

        Raises ModelError, ConfigError where no replica can be had.
        """
        cluster.join(self._settings)
        self._judges[model] = judge
        for seat in self._holding(model):  # another lake than the last may be asking, or a stricter configuration
            if reason := judge(seat.loaded[model]):
                self._refuse(seat, reason)
        self._top_up()
        while not (holding := self._holding(model)) or (everyone and len(holding) < len(self._seats)):
            self._have_loaded(model)
            self._step()
        return holding[0].loaded[model]

    def ways(self, model: ReplicaModel, sides: Sequence[int]) -> Mapping[int, ExecutionModes]:
        """How passes on these sides of the model's borders are run."""
        ray = cluster.need_ray()
        while True:
            first = self._holding(model)[0]
            try:
                found: dict[int, ExecutionModes] = ray.get(first.actor.ways.remote(model, sides))
                return found
            except ray.exceptions.RayTaskError as error:
                raise _failed(first, error) from error
            except ray.exceptions.RayError as error:
                self._lose(first, in_short(error))
                self.ready(model, self._judges[model])

    def compute(self, model: Model, work: Batches[Any], send: Send) -> None:
        """All batches of ``work``, each asked for by ``send``; whatever ends this, none is awaited any more."""
        self._work = work
        try:
            while True:
                self._hand_out(model, work, send)
                if not any(seat.in_flight for seat in self._seats) and not work.left:
                    return
                self._step()
        finally:
            for seat in self._seats:
                seat.tasks = {task: asked for task, asked in seat.tasks.items() if not isinstance(asked, list)}

    def machines(self) -> list[str]:
        """Of each replica that has started, where it is."""
        return [seat.machine.name for seat in self._seats if seat.started]

    def processes(self) -> list[int]:
        """Of each replica that has started, its process's number on its machine."""
        ray = cluster.need_ray()
        return [ray.get(seat.actor.process.remote()) for seat in self._seats if seat.started]

    def close(self) -> None:
        """End the replicas."""
        ray = cluster.need_ray()
        if ray.is_initialized():
            for seat in self._seats:
                ray.kill(seat.actor)
        self._seats = []

    def _hand_out(self, model: Model, work: Batches[Any], send: Send) -> None:
        """One batch each before anyone's second: near the end nobody waits for what another could do."""
        for most in range(1, _IN_FLIGHT + 1):
            for seat in self._holding(model):
                if seat.in_flight < most and (members := work.next()):
                    self._ask(seat, members, send(seat.actor, members))
        self._have_loaded(model)

    def _have_loaded(self, model: Model) -> None:
        for seat in self._seats:
            if seat.started and model not in seat.loaded and model not in seat.tasks.values():
                self._ask(seat, model, seat.actor.load.remote(model))

    def _holding(self, model: Model) -> list[_Seat]:
        return [seat for seat in self._seats if model in seat.loaded]

    def _ask(self, seat: _Seat, what: list[int] | Model | None, task: Any) -> None:
        seat.tasks[task] = what

    def _step(self) -> None:
        """Wait until something has happened, for a moment at most, and take it in. Raises ModelError where nobody is left."""
        ray = cluster.need_ray()
        if not self._seats:
            raise ModelError(
                f"scoring.engine: ray: no replica is left: {self._last_words}; mend that, and the same command goes on"
            )
        waited_for = {task: seat for seat in self._seats for task in seat.tasks}
        done, _ = ray.wait(list(waited_for), num_returns=1, timeout=_BEAT_S)
        for task in done:
            self._heard = time.monotonic()
            self._take_in(waited_for[task], task)
        self._drop_late()
        if not done and time.monotonic() - self._heard > _SILENT_S / 3:
            self._require_cluster()

    def _take_in(self, seat: _Seat, task: Any) -> None:
        ray = cluster.need_ray()
        asked = seat.tasks[task]
        try:
            answer = ray.get(task)
        except ray.exceptions.RayTaskError as error:
            raise _failed(seat, error) from error
        except ray.exceptions.RayError as error:
            self._lose(seat, in_short(error))
            return
        del seat.tasks[task]
        if isinstance(answer, Shown) and isinstance(asked, Model) and (reason := self._judges[asked](answer)):
            answer = Refusal(reason)
        if isinstance(answer, Refusal):
            if isinstance(asked, list):
                seat.tasks[task] = asked
            self._refuse(seat, answer.reason)
            self._top_up()
        elif isinstance(answer, Shown) and isinstance(asked, Model):
            seat.loaded[asked] = answer
        elif isinstance(asked, list):
            self._work.done(asked, None if answer is None else dict(zip(asked, answer, strict=True)))
        else:
            seat.started = True

    def _lose(self, seat: _Seat, reason: str) -> None:
        """A replica that is gone: whoever is left takes its batches."""
        self._leave(seat)
        self._last_words = f"the last, on {seat.machine.name}, is gone ({reason})"
        self.tell(f"a scoring replica on {seat.machine.name} is gone: its batches go to others")

    def _refuse(self, seat: _Seat, reason: str) -> None:
        """A replica that cannot take part; no other is started on its machine."""
        self._leave(seat)
        cluster.need_ray().kill(seat.actor)
        self._looked_at[seat.machine.node_id] = self._last_words = f"{seat.machine.name}: {reason}"
        self.tell(f"no scoring on {self._last_words}")

    def _leave(self, seat: _Seat) -> None:
        self._seats.remove(seat)
        for asked in seat.tasks.values():
            if isinstance(asked, list):
                self._work.put_back(asked)

    def _drop_late(self) -> None:
        allowed = self._settings.wait_s
        for seat in [seat for seat in self._seats if not seat.started and time.monotonic() - seat.since > allowed]:
            self._leave(seat)
            cluster.need_ray().kill(seat.actor)
            self._last_words = (
                f"a replica ({self._needs()}) has not started on {seat.machine.name} within {allowed:g} s; others may hold its "
                "resources (ray status), or the code cannot be imported there"
            )
            self.tell(self._last_words)

    def _require_cluster(self) -> None:
        """Before Ray's own patience, at whose end it ends this process without a word."""
        if cluster.answers():
            self._heard = max(self._heard, time.monotonic() - _SILENT_S / 3)
        elif time.monotonic() - self._heard > _SILENT_S:
            self._seats = []
            cluster.leave()
            raise ModelError(
                f"scoring.engine: ray: the cluster's head has not answered for {_SILENT_S:g} s; start the cluster again, and the same "
                "command goes on"
            )

    def _top_up(self) -> None:
        """Start replicas where there is room, up to as many as are wanted."""
        first = not self._looked_at
        seen = cluster.machines()
        reasons = self._look_at([machine for machine in seen if machine.node_id not in self._looked_at])
        wanted, able = self._settings.replicas, [machine for machine in seen if self._room(machine)]
        most = sum(map(self._room, able))
        if not able or (first and wanted != "auto" and wanted > most):
            many = "a replica" if wanted == "auto" else f"{wanted:,} replicas"
            raise ModelError(
                f"scoring.ray: asked for {many} of {self._needs()}; the cluster has {sum(m.gpus for m in seen):g} GPUs and "
                f"{sum(m.cpus for m in seen):g} CPUs on {len(seen):,} machines, room for {most:,}; lower scoring.ray.gpus, cpus or "
                "replicas, or add machines"
            )
        rooms = {machine: self._room(machine) for machine in able if not reasons[machine.node_id]}
        most = sum(rooms.values())
        if not rooms:
            reason = next(reasons[machine.node_id] for machine in able)
            raise ModelError(f"scoring.engine: ray: no machine of the cluster can score: {reason}")
        lacking = (most if wanted == "auto" else min(wanted, most)) - len(self._seats)
        taken = [seat.machine.node_id for seat in self._seats]
        free = [[machine] * max(room - taken.count(machine.node_id), 0) for machine, room in rooms.items()]
        spread = (machine for layer in itertools.zip_longest(*free) for machine in layer if machine)
        for machine in itertools.islice(spread, max(lacking, 0)):
            self._start(machine)

    def _look_at(self, new: Sequence[Machine]) -> dict[str, str]:
        """Why machines are not used, by node; who was silent is asked again next time."""
        wrong = cluster.unfit(new, self._settings.wait_s) if new else {}
        for machine in new:
            found = wrong.get(machine.node_id)
            if found and self._room(machine) and not found.silent:
                self.tell(f"no scoring on {found.reason}")
            if not (found and found.silent):
                self._looked_at[machine.node_id] = found.reason if found else ""
        return {**self._looked_at, **{node: found.reason for node, found in wrong.items()}}

    def _room(self, machine: Machine) -> int:
        by_cpus = int(machine.cpus // self._numerics.threads)
        gpus = self._settings.gpus
        if not gpus:
            return by_cpus
        on_gpus = int(machine.gpus // gpus) if gpus == 1 else int(machine.gpus) * int(1 / gpus + 1e-9)
        return min(by_cpus, on_gpus)

    def _needs(self) -> str:
        threads, gpus = self._numerics.threads, self._settings.gpus
        return f"{gpus:g} GPU and {threads} CPU" if gpus else f"{threads} CPUs"

    def _start(self, machine: Machine) -> None:
        ray = cluster.need_ray()
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        actor = (
            ray.remote(max_restarts=0, max_task_retries=0)(Replica)
            .options(
                num_cpus=self._numerics.threads,
                num_gpus=self._settings.gpus,
                scheduling_strategy=NodeAffinitySchedulingStrategy(machine.node_id, soft=False),
            )
            .remote(self._numerics, self._keep)
        )
        seat = _Seat(machine, actor, time.monotonic())
        self._seats.append(seat)
        self._ask(seat, None, actor.process.remote())


def _failed(seat: _Seat, error: Exception) -> ModelError:
    """Something in the code itself: it would fail anywhere."""
    cause = getattr(error, "cause", None) or error
    return ModelError(f"scoring on {seat.machine.name} failed: {type(cause).__name__}: {in_short(cause)}")


_open: dict[tuple[RayConfig, Numerics, KeepLoaded], ReplicaPool] = {}
_opening = threading.Lock()


def pool_of(settings: RayConfig, numerics: Numerics, keep: KeepLoaded) -> ReplicaPool:
    """This process's; another than the last takes that one's place, and its resources."""
    key = (settings.model_copy(update={"tolerance": 0.0}), numerics, keep)
    with _opening:
        if key not in _open:
            close_all()
            _open[key] = ReplicaPool(settings, numerics, keep)
        return _open[key]


def check_room(scoring: ScoringConfig) -> tuple[list[Machine], dict[str, str]]:
    """The machines that could hold a replica, and a line for each that has other packages, by node. Raises ModelError, ConfigError
    where there is no cluster, or none of its machines could."""
    settings = scoring.ray
    cluster.join(settings)
    seen = cluster.machines()
    wrong = {node: found.reason for node, found in cluster.unfit(seen, settings.wait_s).items()}
    there = [
        one for one in seen if one.gpus >= settings.gpus and one.cpus >= (1 if settings.gpus else settings.cpus or 1)
    ]
    usable = [one for one in there if one.node_id not in wrong]
    if not usable:
        reason = next((wrong[one.node_id] for one in there), None) or (
            f"asked for {settings.gpus:g} GPU a replica; the cluster has {sum(one.gpus for one in seen):g} GPUs and "
            f"{sum(one.cpus for one in seen):g} CPUs on {len(seen):,} machines"
        )
        raise ModelError(f"scoring.engine: ray: no machine of the cluster can score: {reason}")
    return usable, {node: line for node, line in wrong.items() if node in {one.node_id for one in there}}


def close_all() -> None:
    """End all replicas of this process."""
    for key in list(_open):
        _open.pop(key).close()
