"""
The names below a directory of task files, as lm_eval's TaskIndex finds them, kept between calls: reading lm_eval's own
14,000 files takes many seconds, looking whether they are still the same does not.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from .kept import keep, read_kept
from .overrides import decode_overrides, encode_overrides
from .source import Source, is_unchanged
from .task_yaml import TaskFile, forget_files, read_task_file, remember_file

_SCHEMA = 2
_IGNORED_DIRECTORIES = {"__pycache__", ".ipynb_checkpoints"}

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
    describe = partial(_describe, with_content=with_content)
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
                files[entry.name] = before if _is_current(before) else describe(entry.path)
    return {"mtime_ns": mtime_ns, "subdirectories": subdirectories, "files": files}


def _is_current(described: dict[str, Any] | None) -> bool:
    return (
        described is not None
        and "sources" in described
        and all(is_unchanged(path, source) for path, source in _sources(described).items())
    )


def _sources(described: dict[str, Any]) -> dict[str, Source]:
    return {path: Source(*source) for path, source in described["sources"].items()}


def _describe(path: str, with_content: bool) -> dict[str, Any]:
    """What a file declares and its sources, or why it can't be read: without sources, it is read again each time."""
    try:
        file = read_task_file(path)
        declared = _declared(file.values)
    except Exception as error:  # noqa: BLE001 whatever a YAML file can raise is that file's fault
        return {"error": _one_line(error)}
    content = _content(file.values) if with_content and "name" in declared else {}
    return {"sources": file.sources, **declared, **content}


def _declared(values: dict[str, Any]) -> dict[str, Any]:
    """Kind, name and tags (lm_eval/tasks/_index.py, `process_cfg`)."""
    if "class" in values:
        kind, name = "python", values.get("task")
    elif "group" in values:
        kind, name = "group", values["group"]
    else:
        kind, name = "task", values.get("task")
    if not isinstance(name, str):
        return {}
    tags = values.get("tag") or []
    tags = [tags] if isinstance(tags, str) else [tag for tag in tags if isinstance(tag, str)]
    return {"kind": kind, "name": name, "tags": tags}


def _content(values: dict[str, Any]) -> dict[str, Any]:
    """What the file says, if JSON can hold it."""
    try:
        content = encode_overrides(values)
        holds = decode_overrides(json.loads(json.dumps(content))) == values
    except Exception:  # noqa: BLE001 whatever YAML can say that JSON can't: such a file is parsed each time
        holds = False
    return {"content": content} if holds else {}


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
            remember_file(path, TaskFile(decode_overrides(file["content"]), _sources(file)))
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
