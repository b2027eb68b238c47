"""What decides the last digits of a value: fixed once a lake, so that its scores stay comparable."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields

from upath import UPath

from star_pipeline.adapters.fair_lock import FairLock
from star_pipeline.adapters.lake import write_once, write_whole
from star_pipeline.core.errors import ModelError

_ROWS, _WIDTH, _COLUMNS = 512, 512, 2048
_WORST_ERROR = 1e-5
_ONEDNN = "bf16"
"""With this precision *allowed*, torch hands float32 products to oneDNN. It makes them of bfloat16 on processors with AMX,
and in full float32 elsewhere: so the error is looked at as well as the speed."""
_WORTH = 1.25
"""How many times faster another library has to be: of equals, which one is ahead is chance, and two lakes of one machine would differ."""


PROBES = "probes"
"""In the file of the numerics: model → its ``losses`` of the probe (``replicas.probe``), in nats, and the largest ``difference`` of a
replica that was allowed one."""
ALONE = FairLock()
"""Held by the thread that computes with torch on a processor, a batch at a time, or loads a model: what is in force is in force for
the whole process."""


@dataclass(frozen=True)
class Numerics:
    """``device`` is cpu or cuda (one or several); ``linear`` says who multiplies float32 matrices on a CPU: torch's default
    library (``default``), or ``onednn``, ``layers`` whether a GPU runs a model's layers one operation after the other (``eager``) or
    ``compiled``."""

    dtype: str
    device: str
    threads: int
    linear: str = "default"
    layers: str = "eager"

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Within, torch computes as said. Process-wide: on a processor, other threads wait."""
        with ALONE if self.device == "cpu" else nullcontext():
            import torch

            torch.set_num_threads(self.threads)
            products = torch.backends.mkldnn.matmul
            before = products.fp32_precision
            products.fp32_precision = _ONEDNN if self.linear == "onednn" else "none"
            try:
                yield
            finally:
                products.fp32_precision = before


def settle(
    dtype: str,
    device: str,
    recorded: Numerics | None,
    *,
    here: bool = True,
    threads: int | None = None,
    compiled: bool = False,
) -> Numerics:
    """The settings with ``auto`` filled in: as ``recorded`` where the lake has scored before, else float32 on a CPU, bfloat16 on a GPU,
    the faster of the libraries, ``threads``, or this machine's, and on a GPU layers as ``compiled`` says. Raises ModelError where a device
    is not there, unless it is not to be ``here``."""
    import torch

    kind = device.split(":", 1)[0]
    if device == "auto":
        kind = recorded.device if recorded else "cuda" if torch.cuda.is_available() else "cpu"
    if here and kind == "cuda" and not torch.cuda.is_available():
        raise ModelError(
            f"scoring.device: {kind} is not there (this lake may have been scored on another machine); set scoring.device: cpu "
            "and accept slightly different values, or go back to that machine"
        )
    if dtype == "auto":
        dtype = recorded.dtype if recorded else "float32" if kind == "cpu" else "bfloat16"
    threads = recorded.threads if recorded else threads or torch.get_num_threads()
    layers = recorded.layers if recorded else "compiled" if compiled and kind == "cuda" else "eager"
    return Numerics(dtype, kind, threads, _linear(dtype, kind, threads, recorded), layers)


def devices(asked: str, numerics: Numerics) -> tuple[str, ...]:
    """The devices that share the work: those ``asked`` for by number, else all GPUs, or the processor."""
    import torch

    if numerics.device != "cuda":
        return ("cpu",)
    if ":" in asked:
        named = tuple(part.strip() for part in asked.split(","))
        there = {f"cuda:{number}" for number in range(torch.cuda.device_count())}
        if missing := set(named) - there:
            raise ModelError(
                f"scoring.device: {', '.join(sorted(missing))} is not there; there are {', '.join(sorted(there))}"
            )
        return named
    return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))


def recorded_in(record: UPath) -> Numerics | None:
    """What the file ``record`` holds; None where nothing was scored yet."""
    kept = json.loads(record.read_text("utf-8")) if record.exists() else {}
    named = {field.name: kept[field.name] for field in fields(Numerics) if field.name in kept}
    return Numerics(**named) if "dtype" in named else None


def settled_in(
    record: UPath,
    dtype: str,
    device: str,
    *,
    here: bool = True,
    threads: int | None = None,
    compiled: bool = False,
) -> Numerics:
    """``settle`` with what the file ``record`` holds; it is written at the first time. What else is in the file stays."""
    recorded = recorded_in(record)
    fixed = settle(dtype, device, recorded, here=here, threads=threads, compiled=compiled)
    if recorded is not None:
        return fixed
    kept = json.loads(record.read_text("utf-8")) if record.exists() else {}
    data = json.dumps({**asdict(fixed), **kept}).encode()
    if kept:
        write_whole(record, data)
    elif write_once(record, data) != data:  # another was first, and what it settled holds
        return settled_in(record, dtype, device, here=here, threads=threads, compiled=compiled)
    return fixed


@contextmanager
def left_unsettled(record: UPath) -> Iterator[None]:
    """What is computed within settles nothing: a lake's numerics are those of its first run."""
    settled = record.exists()
    try:
        yield
    finally:
        if not settled:
            record.unlink(missing_ok=True)


def _linear(dtype: str, kind: str, threads: int, recorded: Numerics | None) -> str:
    if kind != "cpu" or dtype != "float32":
        return recorded.linear if recorded else "default"
    if recorded and recorded.linear == "default":
        return "default"
    speeds = {name: _measure(Numerics(dtype, kind, threads, name)) for name in ("default", "onednn")}
    if recorded:
        return recorded.linear if speeds[recorded.linear] else "default"
    return _worth_it(speeds)


def _worth_it(speeds: Mapping[str, float]) -> str:
    """torch's default library, unless the other is faster by more than a measurement's chance."""
    return "onednn" if speeds["onednn"] > _WORTH * speeds["default"] else "default"


def _measure(numerics: Numerics) -> float:
    """Products a second of a layer of usual size, 0 where the error is more than float32's own. Takes some milliseconds."""
    import time

    import torch

    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(shape, generator=generator) for shape in ((_ROWS, _WIDTH), (_COLUMNS, _WIDTH)))
    exact = x.double() @ w.double().t()
    times = []
    with numerics.in_force(), torch.inference_mode():
        error = float((torch.nn.functional.linear(x, w) - exact).abs().max() / exact.abs().max())
        for _ in range(7):
            began = time.perf_counter()
            torch.nn.functional.linear(x, w)
            times.append(time.perf_counter() - began)
    return 1 / min(times) if error < _WORST_ERROR else 0.0
