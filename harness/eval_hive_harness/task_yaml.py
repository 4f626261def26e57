"""Task and group files as lm_eval reads them, except that `!function` stays a reference: nothing is imported."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .source import Source, Stamp, is_stamped, stamp_of

# The same choice as lm_eval/tasks/_yaml_loader.py: scalars must come out alike.
_Base = yaml.CSafeLoader if getattr(yaml, "__with_libyaml__", False) else yaml.FullLoader


@dataclass(frozen=True)
class FunctionRef:
    """`!function utils.process_docs`, and the directory of the file that says it."""

    spec: str
    directory: str


@dataclass(frozen=True)
class TaskFile:
    """A YAML file with its includes merged in. Shared between callers: copy before changing it."""

    values: dict[str, Any]
    # By path as it is written, before links are followed: the file itself first, then what it includes.
    sources: dict[str, Source]

    @property
    def files(self) -> tuple[str, ...]:
        """Resolved paths, in the same order."""
        return tuple(source.file for source in self.sources.values())


class _Loader(_Base):  # type: ignore[misc, valid-type]
    directory = ""


_Loader.add_constructor(
    "!function",
    lambda loader, node: FunctionRef(loader.construct_scalar(node), loader.directory),
)

_parsed: dict[str, tuple[Stamp, dict[str, Any]]] = {}
_remembered: dict[str, TaskFile] | None = None


def read_task_file(path: str | Path) -> TaskFile:
    """Reads a file and what it includes, by the rules of lm_eval's `load_yaml`. Raises what they raise."""
    known = None if _remembered is None else _remembered.get(str(path))
    if known is not None:
        return known
    sources: dict[str, Source] = {}
    file = TaskFile(_read(Path(path), sources), sources)
    if _remembered is not None:
        _remembered[str(path)] = file
    return file


@contextmanager
def remembering_files() -> Iterator[None]:
    """Within it, no file is looked at twice: what happens at one instant."""
    global _remembered
    _remembered = {}
    try:
        yield
    finally:
        _remembered = None


def remember_file(path: str, file: TaskFile) -> None:
    """Within `remembering_files`: saves the next read of this file, of which the caller knows what it says now."""
    if _remembered is not None:
        _remembered[path] = file


def forget_files() -> None:
    """Frees the memory that parsed files take; the next read parses again."""
    _parsed.clear()


def _read(path: Path, sources: dict[str, Source]) -> dict[str, Any]:
    written = str(path.expanduser())
    resolved = os.path.realpath(written)
    if any(resolved == source.file for source in sources.values()):
        # lm_eval refuses a file that is reached twice, even without a cycle.
        raise ValueError(f"Include cycle at {resolved}")
    stamp, values = _parse(resolved)
    sources[written] = Source(resolved, stamp)
    includes = values.get("include")
    if includes is None and "include" not in values:
        return dict(values)
    directory = os.path.dirname(resolved)
    merged: dict[str, Any] = {}
    for include in includes if isinstance(includes, list) else [includes]:
        parent = _read(Path(directory, include), sources)
        parent.pop("task_list", None)
        merged.update(parent)
    merged.update((key, value) for key, value in values.items() if key != "include")
    return merged


def _parse(path: str) -> tuple[Stamp, dict[str, Any]]:
    with open(path, "rb") as stream:
        status = os.fstat(stream.fileno())
        known = _parsed.get(path)
        if known is not None and is_stamped(status, known[0]):
            return known
        stamp = stamp_of(status)
        loader = _Loader(stream)
        try:
            loader.directory = os.path.dirname(path)
            values = loader.get_single_data()
        finally:
            loader.dispose()
    if not isinstance(values, dict):
        raise ValueError(f"Expected YAML dict from {path}, got {type(values).__name__}")
    _parsed[path] = stamp, values
    return stamp, values
