"""The child's side: what happens in a forked process, from its first line to its last."""

from __future__ import annotations

import ctypes
import faulthandler
import io
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

from .redaction import learn_secrets, redact_logs
from .turn import Orders, Turn
from .wire import Wire, encode, write_line

# The parent's variables of a job that lm_eval would take for its own.
_NOT_FOR_LM_EVAL = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK")
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def become_child(parent_pid: int) -> None:
    """A session of its own, dead with the parent, signals as in any program; whoever loses its parent in it is our child."""
    os.setsid()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    if os.getppid() != parent_pid:
        os._exit(1)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def serve(request: dict[str, Any], output_fd: int, further: Wire | None) -> None:
    """
    Carries out the request, and those that follow on `further` until it ends, the model can't be loaded, or something is
    left behind; one that is held gets the word there that its turn has come.
    """

    def say(message: dict[str, Any]) -> None:
        write_line(output_fd, encode(message))

    if request["type"] == "plan":
        _plan(request, say)
        return
    from .evaluate import Session

    assert further is not None
    redact_logs()
    session, orders = Session(), Orders(further)
    following: dict[str, Any] | None = request
    while following is not None:
        request = following
        if not _run(request, session, Turn(request, orders), say):
            return
        # What a task has left running ends with the process that started it.
        if _has_children():
            return
        say({"type": "finished", "id": request["id"], **_used()})
        following = orders.next_request()
        if following is not None:
            say({"type": "taken", "id": following["id"]})


class _Log(io.FileIO):
    """Drops what a full disk does not take: no reason to lose an evaluation."""

    def write(self, data: Any) -> int | None:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def _open_log(path: str) -> None:
    """What is printed from now on goes there."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for fd in (1, 2):
        os.dup2(log, fd)
    os.close(log)
    # Where every thread is, for a parent that has waited long enough.
    faulthandler.register(signal.SIGUSR1, file=2, all_threads=True)
    lines = io.BufferedWriter(_Log(2, "wb", closefd=False))
    sys.stdout = sys.stderr = io.TextIOWrapper(
        lines, encoding="utf-8", errors="backslashreplace", line_buffering=True
    )


def _apply_environment(request: dict[str, Any]) -> None:
    os.chdir(request["cwd"])
    os.environ.update(request["env"])
    for name in _NOT_FOR_LM_EVAL:
        os.environ.pop(name, None)
    # What talks to the balancer never goes through a proxy; what talks to the Hub still may.
    for name in ("no_proxy", "NO_PROXY"):
        hosts = [os.environ.get(name, ""), "127.0.0.1", "localhost", "::1"]
        os.environ[name] = ",".join(host for host in hosts if host)
    # Metrics with a bootstrap would start a pool of processes per leaf; the draws are the same without.
    os.environ.setdefault("DISABLE_MULTIPROC", "1")
    os.environ["TOKENIZERS_PARALLELISM"] = os.environ.get("TOKENIZERS_PARALLELISM", "false")
    for path in reversed(request["env"].get("PYTHONPATH", "").split(os.pathsep)):
        if path and path not in sys.path:
            sys.path.insert(0, path)


def _run(
    request: dict[str, Any], session: Any, turn: Turn, say: Callable[[dict[str, Any]], None]
) -> bool:
    """False when this process should not be asked again: it has failed to load the model, and may hold half of it."""
    from lm_eval.utils import setup_logging

    from .evaluate import Batch
    from .failures import ModelError, describe_failure, print_failure

    session.isolation.restore()
    learn_secrets(request)
    try:
        _open_log(request["log_file"])
        _apply_environment(request)
        setup_logging()
        Batch(request, session, turn, say).evaluate()
    except Exception as error:
        print_failure(error)
        say({"type": "error", "id": request["id"], **describe_failure(error, "starting")})
        return not isinstance(error, ModelError)
    return True


def _plan(request: dict[str, Any], say: Callable[[dict[str, Any]], None]) -> None:
    from .failures import describe_failure, print_failure

    try:
        from . import planning

        say(planning.plan(request))
    except Exception as error:
        print_failure(error)
        say({"type": "error", "id": request["id"], **describe_failure(error, "planning")})


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _used() -> dict[str, Any]:
    own, others = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    cpu_s = own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime
    return {"cpu_s": round(cpu_s, 3), "max_rss_bytes": own.ru_maxrss * 1024}
