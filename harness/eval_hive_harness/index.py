"""
The names below a directory of task files, as lm_eval's TaskIndex finds them, kept between calls: reading lm_eval's own
14,000 files takes many seconds, looking whether they are still the same does not.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from typing import Any, Literal

from .kept import keep, read_kept
from .task_yaml import forget_files, read_task_file

_SCHEMA = 1
_IGNORED_DIRECTORIES = {"__pycache__", ".ipynb_checkpoints"}

Kind = Literal["task", "python", "group", "tag"]


@dataclass
class Entry:
    name: str
    kind: Kind
    # None for tags.
    yaml_path: str | None
    # For tags: the names of their tasks.
    members: set[str] = field(default_factory=set)


@dataclass
class Index:
    entries: dict[str, Entry]
    # Files that can't be read, names that are there twice.
    warnings: list[str]


def open_index(root: str, cache_dir: str, sealed_by: str | None = None) -> Index:
    """
    The index of one directory. With `sealed_by`, a hash of an installed package's files, a file is looked at again
    only when that hash or its directory changes; without it, when the file or one of its includes changes.
    """
    cache = _cache_path(root, cache_dir)
    known = _read_cache(cache)
    trusted = sealed_by is not None and known["sealed_by"] == sealed_by
    directories, changed = _scan(root, known["directories"], trusted)
    if changed or known["sealed_by"] != sealed_by:
        _write_cache(cache, {"schema": _SCHEMA, "sealed_by": sealed_by, "directories": directories})
    return _build(root, directories)


def _scan(root: str, known: dict[str, Any], trusted: bool) -> tuple[dict[str, Any], bool]:
    """By directory relative to `root`: its mtime, subdirectories and files. And whether anything differs from `known`."""
    directories: dict[str, Any] = {}
    changed = False
    waiting = [""]
    while waiting:
        relative = waiting.pop()
        path = os.path.join(root, relative)
        mtime_ns = os.stat(path).st_mtime_ns
        before = known.get(relative, {"mtime_ns": -1, "subdirectories": [], "files": {}})
        if trusted and before["mtime_ns"] == mtime_ns:
            directories[relative] = before
        else:
            now = _read_directory(path, mtime_ns, before["files"])
            changed = changed or now != before
            directories[relative] = now
        waiting += [os.path.join(relative, name) for name in directories[relative]["subdirectories"]]
    return directories, changed or directories.keys() != known.keys()


def _read_directory(path: str, mtime_ns: int, known: dict[str, Any]) -> dict[str, Any]:
    subdirectories, files = [], {}
    with os.scandir(path) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _IGNORED_DIRECTORIES:
                    subdirectories.append(entry.name)
            elif entry.name.endswith(".yaml"):
                before = known.get(entry.name)
                same = before is not None and _stamps(before["stamps"]) == before["stamps"]
                files[entry.name] = before if same else _describe(entry.path)
    return {"mtime_ns": mtime_ns, "subdirectories": subdirectories, "files": files}


def _stamps(files: dict[str, Any]) -> dict[str, Any]:
    """By file: mtime and size; null when it is missing."""
    stamps: dict[str, Any] = {}
    for path in files:
        try:
            status = os.stat(path)
            stamps[path] = [status.st_mtime_ns, status.st_size]
        except OSError:
            stamps[path] = None
    return stamps


def _describe(path: str) -> dict[str, Any]:
    """What a file declares: kind, name and tags (lm_eval/tasks/_index.py, `process_cfg`), or why it can't be read."""
    try:
        file = read_task_file(path)
    except Exception as error:  # noqa: BLE001 whatever a YAML file can raise is that file's fault
        return {"stamps": _stamps({path: None}), "error": _one_line(error)}
    stamps = _stamps(dict.fromkeys((path, *file.files)))
    values = file.values
    if "class" in values:
        kind, name = "python", values.get("task")
    elif "group" in values:
        kind, name = "group", values["group"]
    else:
        kind, name = "task", values.get("task")
    if not isinstance(name, str):
        return {"stamps": stamps}
    tags = values.get("tag") or []
    return {"stamps": stamps, "kind": kind, "name": name, "tags": [tags] if isinstance(tags, str) else tags}


def _build(root: str, directories: dict[str, Any]) -> Index:
    """In lm_eval's order: paths sorted as text, the first of two equal names stays."""
    files = {
        os.path.join(relative, name): file
        for relative, directory in directories.items()
        for name, file in directory["files"].items()
    }
    index = Index({}, [])
    for relative in sorted(files):
        file, path = files[relative], os.path.join(root, relative)
        if "error" in file:
            index.warnings.append(f'Cannot read task file "{path}", it is left out: {file["error"]}')
        if "name" in file:
            _add(index, Entry(file["name"], file["kind"], path), file["tags"])
    return index


def _add(index: Index, entry: Entry, tags: list[str]) -> None:
    first = index.entries.get(entry.name)
    if first is not None:
        index.warnings.append(
            f'Name "{entry.name}" in "{entry.yaml_path}" is left out: '
            f'"{first.yaml_path or "a tag"}" has it already'
        )
        return
    index.entries[entry.name] = entry
    if entry.kind == "group":
        return
    for tag in tags:
        index.entries.setdefault(tag, Entry(tag, "tag", None)).members.add(entry.name)


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _cache_path(root: str, cache_dir: str) -> str:
    digest = hashlib.sha256(os.path.abspath(root).encode()).hexdigest()
    return os.path.join(cache_dir, f"tasks-{digest[:16]}.json")


def _read_cache(path: str) -> dict[str, Any]:
    cache = read_kept(path)
    if isinstance(cache, dict) and cache.get("schema") == _SCHEMA:
        return cache
    return {"sealed_by": None, "directories": {}}


def _write_cache(path: str, cache: dict[str, Any]) -> None:
    forget_files()
    keep(path, cache)
