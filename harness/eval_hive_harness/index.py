"""
The names below a directory of task files, as lm_eval's TaskIndex finds them, kept between calls: reading lm_eval's own
14,000 files takes many seconds, looking whether they are still the same does not.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from .kept import keep, read_kept
from .overrides import decode_overrides, encode_overrides
from .task_yaml import TaskFile, forget_files, read_task_file, remember_file

_SCHEMA = 1
_IGNORED_DIRECTORIES = {"__pycache__", ".ipynb_checkpoints"}
# File systems count time in steps of up to two seconds: a change within the same step shows in no stamp.
_STEP_NS = 2_000_000_000

Kind = Literal["task", "python", "group", "tag"]

# Of a file, by its path: what is kept of it.
_Describe = Callable[[str], dict[str, Any]]


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


def open_index(
    root: str, cache_dir: str, *, sealed_by: str | None = None, with_content: bool = False
) -> Index:
    """
    The index of one directory. With `sealed_by`, a hash of an installed package's files, a file is looked at again
    only when that hash or its directory changes; without it, when the file or one of its includes changes.
    `with_content` keeps what the files say as well, and `read_task_file` need not parse them.
    """
    cache = _cache_path(root, cache_dir, "suite" if with_content else "tasks")
    known = _read_cache(cache)
    trusted = sealed_by is not None and known["sealed_by"] == sealed_by
    describe = _describe_with_content if with_content else _describe
    directories, changed = _scan(root, known["directories"], trusted, describe)
    if changed or known["sealed_by"] != sealed_by:
        _write_cache(cache, {"schema": _SCHEMA, "sealed_by": sealed_by, "directories": directories})
    return _build(root, directories)


def _scan(
    root: str, known: dict[str, Any], trusted: bool, describe: _Describe
) -> tuple[dict[str, Any], bool]:
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
            now = _read_directory(path, mtime_ns, before["files"], describe)
            changed = changed or now != before
            directories[relative] = now
        waiting += [os.path.join(relative, name) for name in directories[relative]["subdirectories"]]
    return directories, changed or directories.keys() != known.keys()


def _read_directory(
    path: str, mtime_ns: int, known: dict[str, Any], describe: _Describe
) -> dict[str, Any]:
    subdirectories, files = [], {}
    with os.scandir(path) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _IGNORED_DIRECTORIES:
                    subdirectories.append(entry.name)
            elif entry.name.endswith(".yaml"):
                before = known.get(entry.name)
                same = before is not None and _stamps(before["stamps"]) == before["stamps"]
                files[entry.name] = before if same else describe(entry.path)
    return {"mtime_ns": mtime_ns, "subdirectories": subdirectories, "files": files}


def _stamps(files: dict[str, Any]) -> dict[str, Any]:
    """By file: what changes with it; null when it can't be read."""
    return {path: _stamp(path) for path in files}


def _stamp(path: str) -> list[int] | None:
    try:
        # Opened, not only looked at: a network file system then asks its server.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    now = time.time_ns()
    # One that never comes again, as long as the next change might leave the same.
    young = [now] if now - status.st_mtime_ns < _STEP_NS else []
    return [status.st_mtime_ns, status.st_size, *young]


def _describe(path: str) -> dict[str, Any]:
    """What a file declares: kind, name and tags (lm_eval/tasks/_index.py, `process_cfg`), or why it can't be read."""
    try:
        return _declared(path, read_task_file(path))
    except Exception as error:  # noqa: BLE001 whatever a YAML file can raise is that file's fault
        return {"stamps": _stamps({path: None}), "error": _one_line(error)}


def _describe_with_content(path: str) -> dict[str, Any]:
    """The same, and the file itself if JSON can hold it."""
    described = _describe(path)
    if "name" not in described:
        return described
    file = read_task_file(path)
    try:
        values = encode_overrides(file.values)
        holds = decode_overrides(json.loads(json.dumps(values))) == file.values
    except (TypeError, ValueError, yaml.YAMLError):
        holds = False
    return {**described, "content": {"values": values, "files": file.files}} if holds else described


def _declared(path: str, file: TaskFile) -> dict[str, Any]:
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
        if "content" in file:
            content = file["content"]
            remember_file(path, TaskFile(decode_overrides(content["values"]), tuple(content["files"])))
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


def _cache_path(root: str, cache_dir: str, kind: str) -> str:
    digest = hashlib.sha256(os.path.abspath(root).encode()).hexdigest()
    return os.path.join(cache_dir, f"{kind}-{digest[:16]}.json")


def _read_cache(path: str) -> dict[str, Any]:
    cache = read_kept(path)
    if isinstance(cache, dict) and cache.get("schema") == _SCHEMA:
        return cache
    return {"sealed_by": None, "directories": {}}


def _write_cache(path: str, cache: dict[str, Any]) -> None:
    forget_files()
    keep(path, cache)
