"""``star-pipeline`` as a process of its own, forked from one that has its libraries loaded: it starts without the seconds of imports.

It is a real process to all who meet it: its own id, folder, environment, pipes, signals and exit code, and ``main`` is what it runs.
Two things are not as when a user starts it, and need ``subprocess.run(command(...))``: what libraries read of the environment while
they are imported, and the last words of an interpreter that is taken apart.
"""

import array
import atexit
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER
_STOPS_AFTER = "STAR_TESTS_STOPS_AFTER"
_LOADED = (
    "star_pipeline.cli",
    *(f"star_pipeline.commands.{name}" for name in ("doctor", "export", "query", "report", "run", "score", "study")),
    "star_pipeline.adapters.llm.library",
    "star_pipeline.adapters.memory",
    "accelerate",
    "sentence_transformers",
    *(f"transformers.models.{name}.modeling_{name}" for name in ("gpt2", "gpt_neox", "llama")),
)


def command(*arguments: Any) -> list[str]:
    """The console script and its arguments."""
    return [str(Path(sys.executable).with_name("star-pipeline")), *map(str, arguments)]


def star(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command's exit code and what it said, once it has ended."""
    with started(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as process:
        try:
            said = process.communicate(timeout=900)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, *said)


def started(*arguments: Any, **options: Any) -> "subprocess.Popen[Any]":
    """The command at work; ``options`` are those of ``Popen`` (text unless said otherwise)."""
    kind = Forked if sys.platform == "linux" else subprocess.Popen  # elsewhere no process can adopt another
    return kind(command(*arguments), **{"text": True, **options})


def stopped_after(path: str, *arguments: Any, **options: Any) -> "subprocess.Popen[Any]":
    """The command in the midst of its work, however late we look: it stops (SIGSTOP) once it has put a file in place whose path matches.

    Where it ends before that, AssertionError.
    """
    if sys.platform != "linux":
        pytest.skip("what is to stop a command by itself is known to forked ones alone")
    process = started(*arguments, **{**options, "env": {**(options.get("env") or os.environ), _STOPS_AFTER: path}})
    while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
        assert process.poll() is None, f"it ended with code {process.returncode} before it put {path} in place"
        time.sleep(0.01)
    return process


class Forked(subprocess.Popen[Any]):
    """The same ``Popen``, whose child is forked by the process that has everything loaded, and is then a child of this one.

    A child of the server whose parent is gone goes to the nearest ancestor that has asked for such orphans, which is this process.
    """

    def _execute_child(self, args: Sequence[str], executable: Any, preexec: Any, close: Any, keep: Any, cwd: Any, env: Any,
                       info: Any, flags: Any, shell: Any, p2cread: int, p2cwrite: int, c2pread: int, c2pwrite: int,
                       errread: int, errwrite: int, *rest: Any) -> None:  # fmt: skip  # as in the standard library
        given = [fd if fd != -1 else own for fd, own in zip((p2cread, c2pwrite, errwrite), (0, 1, 2), strict=True)]
        wanted = {
            "arguments": list(args),
            "folder": os.fspath(cwd or os.getcwd()),
            "environment": dict(os.environ if env is None else env),
        }
        self.pid = _Server.of_this_process().fork(json.dumps(wanted), given)
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)


class _Server:
    """The process that has everything loaded, and the socket to it."""

    _mine: "_Server | None" = None
    _one_at_a_time = threading.Lock()

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", f"from {__name__} import serve; serve({theirs.fileno()})"],
                pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        atexit.register(self.close)

    @classmethod
    def of_this_process(cls) -> "_Server":
        with cls._one_at_a_time:
            if cls._mine is None:
                cls._mine = cls()
            return cls._mine

    def fork(self, wanted: str, fds: Sequence[int]) -> int:
        with self._one_at_a_time:
            return self._fork(wanted, fds)

    def _fork(self, wanted: str, fds: Sequence[int]) -> int:
        _adopt_orphans(True)
        try:
            size = len(wanted.encode())
            self.socket.sendmsg([str(size).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
            for start in range(0, size, 2**16):
                self.socket.send(wanted.encode()[start : start + 2**16])
            said = self.socket.recv(100)
        finally:
            _adopt_orphans(False)
        if not said:
            raise OSError("the process that forks star-pipeline has ended")
        return int(said)

    def close(self) -> None:
        self.socket.close()
        self.process.wait(120)


def _adopt_orphans(on: bool) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, int(on), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def serve(number: int) -> None:
    """Load everything, then fork a process a request until the socket is closed; comes back in each of them as ``main``."""
    import gc
    import importlib
    import warnings

    warnings.filterwarnings("ignore")
    for name in _LOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what is loaded stays shared with each process: none goes through it again
    requests = socket.socket(fileno=number)
    while True:
        size, rights, _, _ = requests.recvmsg(100, socket.CMSG_SPACE(12))
        if not size:
            return
        fds = array.array("i", rights[0][2])
        wanted = b""
        while len(wanted) < int(size):
            wanted += requests.recv(2**16)
        heard, told = os.pipe()
        between = os.fork()
        if between == 0:
            child = os.fork()
            if child:
                os.write(told, str(child).encode())
                os._exit(0)
            break
        os.waitpid(between, 0)  # only then has the child its new parent
        requests.send(os.read(heard, 100))
        for fd in (heard, told, *fds):
            os.close(fd)
    for fd in (heard, told):
        os.close(fd)
    requests.close()
    _become(json.loads(wanted), list(fds))


def _stop_after(path: str) -> None:
    there = False

    def note(event: str, args: tuple[Any, ...]) -> None:
        nonlocal there, path
        if there:  # it is told before it is done: the next event comes after it
            there, path = False, ""
            os.kill(os.getpid(), signal.SIGSTOP)
        elif path and event == "os.rename" and re.search(path, os.fsdecode(args[1])):
            there = True

    sys.addaudithook(note)


def _become(wanted: dict[str, Any], fds: list[int]) -> None:
    for fd, place in zip(fds, (0, 1, 2), strict=True):
        os.dup2(fd, place)
        os.close(fd)
    # as at an interpreter's start
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.chdir(wanted["folder"])
    os.environ.clear()
    os.environ.update(wanted["environment"])
    sys.argv = wanted["arguments"]
    if path := os.environ.pop(_STOPS_AFTER, ""):
        _stop_after(path)
    from star_pipeline.cli import main

    code: Any = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    # as an interpreter ends, but that it does not take apart all that was loaded
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code)
