"""
The harness: a warm parent that has lm_eval imported and forks a child per request. It speaks the protocol of
src/lmeval/protocol.ts on the stdin and stdout that it was started with. The parent stays single-threaded, reads no task
and encodes no text, so that a fork is always safe; it never waits for a child, so that a ping is answered at once.

    python …/eval_hive_harness/__main__.py [--plan]

With --plan it answers `plan` requests alone, and is there sooner.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import json
import os
import resource
import select
import signal
import sys
import traceback
from typing import Any

if __package__ in (None, ""):
    # Started by its path, as `python …/eval_hive_harness/__main__.py`: its own folder must not hide other modules.
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from eval_hive_harness.transformers_exports import default_directory, remember_exports
from eval_hive_harness.versions import UnusableLmEval, describe_versions, require_lm_eval
from eval_hive_harness.wire import Wire, take_over_stdio

# Read when lm_eval's dependencies are imported: no thread before the fork, and bars that don't fill the log.
_SETTINGS = {
    "TOKENIZERS_PARALLELISM": "false",
    "OPENBLAS_NUM_THREADS": "1",
    "TQDM_MININTERVAL": "10",
}


def main() -> int:
    wire = take_over_stdio()
    wakeup, wake = os.pipe()
    for fd in (wakeup, wake):
        os.set_blocking(fd, False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(wake)
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    # What is imported stays; to look for garbage in it, again and again, only takes time.
    gc.disable()
    try:
        require_lm_eval()
        if "--plan" in sys.argv[1:]:
            import eval_hive_harness.planning  # noqa: F401
        else:
            _import_everything()
        versions = describe_versions()
    except Exception as error:
        wire.send({"type": "error", "id": "", **_start_failure(error)})
        return 3
    from eval_hive_harness.children import Children

    # With what little garbage the imports have left: to look for it takes longer than it is worth.
    gc.freeze()
    gc.enable()
    children = Children(wire, lambda: [wakeup, wake, *_descriptors(wire, children)])
    wire.send({"type": "hello", "pid": os.getpid(), "versions": versions})
    try:
        _listen(wire, children, wakeup)
    except BrokenPipeError:
        pass  # Whoever started us is gone.
    finally:
        children.kill_all()
    with contextlib.suppress(BrokenPipeError):
        wire.send({"type": "goodbye", "cpu_s": _cpu_seconds()})
    return 0


def _cpu_seconds() -> float:
    """Of this process, and of all that it has waited for."""
    usages = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return round(sum(usage.ru_utime + usage.ru_stime for usage in usages), 3)


def _listen(wire: Wire, children: Any, wakeup: int) -> None:
    """Until the end of stdin, `shutdown`, or a signal that asks for it."""
    while True:
        # Whoever does not read us holds up the children, not our ears.
        talking = [] if wire.is_full else [child.input for child in children.wires()]
        unsent = [child for child in children.wires() if child.has_unsent]
        readable, _, _ = select.select(
            [wire.input, wakeup, *talking],
            [w.output for w in (wire, *unsent) if w.has_unsent],
            [],
            children.seconds_to_deadline(),
        )
        wire.flush()
        for child in unsent:
            children.flush(child)
        for fd in readable:
            if fd == wakeup:
                if {signal.SIGTERM, signal.SIGINT} & set(os.read(wakeup, 4096)):
                    return
                children.reap()
            elif fd == wire.input:
                lines, ended = wire.receive()
                for line in lines:
                    if not _obey(json.loads(line), wire, children):
                        return
                if ended:
                    return
            else:
                children.relay(fd)
        children.enforce()


def _obey(request: dict[str, Any], wire: Wire, children: Any) -> bool:
    """False when it is time to go."""
    kind = request["type"]
    if kind == "ping":
        wire.send({"type": "pong", "n": request["n"]})
    elif kind == "cancel":
        children.cancel(request["id"])
    elif kind == "go":
        children.go(request["id"])
    elif kind in ("run", "plan"):
        children.start(request)
    elif kind != "shutdown":
        raise ValueError(f'Unknown request "{kind}"')
    return kind != "shutdown"


def _import_everything() -> None:
    """What every evaluation needs, so that children find it done."""
    remember_exports(default_directory())
    import eval_hive_harness.evaluate  # noqa: F401
    import lm_eval.tasks  # noqa: F401
    from eval_hive_harness.engine import fast_model
    from eval_hive_harness.warm import warm_up
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    if importlib.util.find_spec("torch") is not None:
        # lm_eval imports it in any case, to seed it.
        import torch  # noqa: F401
    if importlib.util.find_spec("transformers") is not None:
        from transformers import AutoTokenizer  # noqa: F401
    fast_model(LocalCompletionsAPI)
    for failure in warm_up():
        print(f"Not warmed up: {failure}", file=sys.stderr)


def _start_failure(error: Exception) -> dict[str, Any]:
    traceback.print_exc()
    missing = isinstance(error, (UnusableLmEval, ImportError))
    return {
        "class": "missing-module" if missing else "other",
        "permanent": True,
        "message": str(error) if missing else f"{type(error).__name__}: {error}",
        "trace_tail": traceback.format_exc().strip().split("\n")[-20:],
    }


def _descriptors(wire: Wire, children: Any) -> list[int]:
    return [fd for w in (wire, *children.wires()) for fd in w.descriptors()]


if __name__ == "__main__":
    _code = main()
    sys.stderr.flush()
    # To take apart all that was imported, piece by piece, would take longer than many a batch.
    os._exit(_code)
