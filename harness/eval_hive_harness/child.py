"""The child's side: what happens in a forked process, from its first line to its last."""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

from .wire import Wire, encode, write_line

# The parent's variables of a job that lm_eval would take for its own.
_NOT_FOR_LM_EVAL = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK")
_PR_SET_PDEATHSIG = 1


def become_child(parent_pid: int) -> None:
    """A session of its own, dead with the parent, signals as in any program."""
    os.setsid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def serve(request: dict[str, Any], output_fd: int, further: Wire | None) -> None:
    """Carries out the request, and those that follow on `further` until it ends."""

    def say(message: dict[str, Any]) -> None:
        write_line(output_fd, encode(message))

    if request["type"] == "plan":
        _plan(request, say)
        return
    _enter(request)
    from .evaluate import Session

    session = Session()
    waiting = [request]
    while waiting:
        for request in waiting:
            _run(request, session, say)
            if further is not None:
                say({"type": "finished", "id": request["id"], **_used()})
        waiting = _next_requests(further) if further is not None else []


def _enter(request: dict[str, Any]) -> None:
    """The log, the working directory and the environment of a run."""
    os.makedirs(os.path.dirname(request["log_file"]), exist_ok=True)
    log = os.open(request["log_file"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for fd in (1, 2):
        os.dup2(log, fd)
    os.close(log)
    _apply_environment(request)
    from lm_eval.utils import setup_logging

    setup_logging()


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


def _run(request: dict[str, Any], session: Any, say: Callable[[dict[str, Any]], None]) -> None:
    from .evaluate import Batch
    from .failures import describe_failure

    _apply_environment(request)
    try:
        Batch(request, session, say).evaluate()
    except Exception as error:
        traceback.print_exc()
        failure = describe_failure(error, "starting", request["base_url_prefix"])
        say({"type": "error", "id": request["id"], **failure})


def _plan(request: dict[str, Any], say: Callable[[dict[str, Any]], None]) -> None:
    from .failures import describe_failure

    try:
        from . import planning

        say(planning.plan(request))
    except Exception as error:
        traceback.print_exc()
        say({"type": "error", "id": request["id"], **describe_failure(error, "planning")})


def _next_requests(further: Wire) -> list[dict[str, Any]]:
    import json

    while True:
        select.select([further.input], [], [])
        lines, ended = further.receive()
        if lines:
            return [json.loads(line) for line in lines]
        if ended:
            return []


def _used() -> dict[str, Any]:
    own, others = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    cpu_s = own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime
    return {"cpu_s": round(cpu_s, 3), "max_rss_bytes": own.ru_maxrss * 1024}
