"""Why a leaf failed: the classes of src/lmeval/protocol.ts, found by what was going on and by the type of the error."""

from __future__ import annotations

import errno
import sys
import traceback
from typing import Any

from .redaction import redacted

_TRACE_LINES = 20
_TRACE_LINE_CHARACTERS = 500
_MESSAGE_CHARACTERS = 2_000

# Trying again gives the same answer.
_PERMANENT = frozenset(("task-changed", "unsafe-code", "unsupported"))

# By what the child was doing. Building the model says so itself: see ModelError.
_CLASS_OF_PHASE = {
    "loading": "load",
    "requests": "requests",
    "scoring": "metric",
    "writing": "write",
}

# huggingface_hub and datasets have moved these from module to module, so names have to do.
_OFFLINE_TYPES = frozenset(("OfflineModeIsEnabled", "LocalEntryNotFoundError"))
_OUT_OF_MEMORY_TYPES = frozenset(("MemoryError", "OutOfMemoryError"))
# Whatever was to be written, and whoever wanted it.
_UNWRITABLE = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS))
_OUT_OF_REACH = frozenset((errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE))


class Refused(Exception):
    """Ours: this leaf must not be evaluated like this. Carries the class."""

    def __init__(self, failure_class: str, message: str) -> None:
        super().__init__(message)
        self.failure_class = failure_class


class ModelError(Exception):
    """The model object can't be built: no leaf of the batch can be evaluated. The cause is the error itself."""


def describe_failure(error: BaseException, phase: str) -> dict[str, Any]:
    """The fields of a failure."""
    shown = _shown(error)
    message = "".join(traceback.format_exception_only(type(shown), shown)).strip()
    if isinstance(error, Refused):
        message = str(error)
    failure_class = classify(error, phase)
    lines = _trace(shown).strip().split("\n")[-_TRACE_LINES:]
    return {
        "class": failure_class,
        "permanent": failure_class in _PERMANENT,
        "message": redacted(message)[:_MESSAGE_CHARACTERS],
        "trace_tail": [line[:_TRACE_LINE_CHARACTERS] for line in lines],
    }


def print_failure(error: BaseException) -> None:
    """The whole of it, for the log."""
    print(_trace(_shown(error)), file=sys.stderr, flush=True)


def _shown(error: BaseException) -> BaseException:
    return error.__cause__ if isinstance(error, ModelError) and error.__cause__ else error


def _trace(error: BaseException) -> str:
    return redacted("".join(traceback.format_exception(type(error), error, error.__traceback__)))


def classify(error: BaseException, phase: str) -> str:
    if isinstance(error, Refused):
        return error.failure_class
    chain = _chain(error)
    names = {base.__name__ for link in chain for base in type(link).__mro__}
    if names & _OUT_OF_MEMORY_TYPES:
        return "memory"
    if any(isinstance(link, OSError) and link.errno in _UNWRITABLE for link in chain):
        return "write"
    if phase == "starting" and isinstance(error, OSError) and error.errno in _OUT_OF_REACH:
        # The log.
        return "write"
    if phase == "writing" and (not isinstance(error, OSError) or error.errno == errno.ENAMETOOLONG):
        # What this leaf wants to be written is at fault, not the place.
        return "other"
    if names & _OFFLINE_TYPES or any(_is_told_offline(link) for link in chain):
        return "data-offline"
    if any(_is_missing_module(link) for link in chain):
        return "missing-module"
    if isinstance(error, ModelError):
        return "model"
    if phase == "requests" and any(_is_unsupported(link) for link in chain):
        return "unsupported"
    return _CLASS_OF_PHASE.get(phase, "other")


def _is_told_offline(error: BaseException) -> bool:
    # datasets (load.py, dataset_module_factory) puts the reason into the text and hides the error that it came from.
    text = str(error)
    told = any(name in text for name in _OFFLINE_TYPES) or "offline mode is enabled" in text.lower()
    return isinstance(error, ConnectionError) and told


def _is_missing_module(error: BaseException) -> bool:
    # transformers and evaluate raise a plain ImportError that asks for `pip install`.
    return isinstance(error, ModuleNotFoundError) or (
        isinstance(error, ImportError) and "pip install" in str(error)
    )


def _is_unsupported(error: BaseException) -> bool:
    # Chat models have no log-likelihood; without a tokenizer there is none either (lm_eval/models/api_models.py).
    return isinstance(error, NotImplementedError) or (
        isinstance(error, AssertionError) and str(error).startswith("Tokenizer is required")
    )


def _chain(error: BaseException) -> list[BaseException]:
    """The error and what led to it, as the traceback tells it."""
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return links
