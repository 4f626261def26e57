"""Why a leaf failed: the classes of src/lmeval/protocol.ts, found by what was going on and by the type of the error."""

from __future__ import annotations

import errno
import traceback
from typing import Any

_TRACE_LINES = 20
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
_FULL_DISK = frozenset((errno.ENOSPC, errno.EDQUOT))


class Refused(Exception):
    """Ours: this leaf must not be evaluated like this. Carries the class."""

    def __init__(self, failure_class: str, message: str) -> None:
        super().__init__(message)
        self.failure_class = failure_class


class ModelError(Exception):
    """The model object can't be built: no leaf of the batch can be evaluated. The cause is the error itself."""


def describe_failure(error: BaseException, phase: str, secret: str | None = None) -> dict[str, Any]:
    """The fields of a failure. `secret` is left out of all text: an address that only the child may know."""
    shown = error.__cause__ if isinstance(error, ModelError) and error.__cause__ else error
    lines = "".join(traceback.format_exception(type(shown), shown, shown.__traceback__))
    message = "".join(traceback.format_exception_only(type(shown), shown)).strip()
    if isinstance(error, Refused):
        message = str(error)
    failure_class = classify(error, phase)
    return {
        "class": failure_class,
        "permanent": failure_class in _PERMANENT,
        "message": _without(secret, message)[:_MESSAGE_CHARACTERS],
        "trace_tail": _without(secret, lines).strip().split("\n")[-_TRACE_LINES:],
    }


def classify(error: BaseException, phase: str) -> str:
    if isinstance(error, Refused):
        return error.failure_class
    chain = _chain(error)
    names = {base.__name__ for link in chain for base in type(link).__mro__}
    if names & _OUT_OF_MEMORY_TYPES:
        return "memory"
    if any(isinstance(link, OSError) and link.errno in _FULL_DISK for link in chain):
        return "write"
    if names & _OFFLINE_TYPES:
        return "data-offline"
    if any(_is_missing_module(link) for link in chain):
        return "missing-module"
    if isinstance(error, ModelError):
        return "model"
    if phase == "requests" and any(_is_unsupported(link) for link in chain):
        return "unsupported"
    return _CLASS_OF_PHASE.get(phase, "other")


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


def _without(secret: str | None, text: str) -> str:
    return text.replace(secret, "<balancer>") if secret else text
