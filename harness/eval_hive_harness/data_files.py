"""Local data of a task, by content: a changed file is another evaluation, a moved one is not."""

from __future__ import annotations

import glob
import hashlib
import os
from functools import lru_cache
from typing import Any

# Beyond this a directory counts by the names and sizes of its files.
_MAX_HASHED_BYTES = 1 << 30


def data_content(config: dict[str, Any]) -> dict[str, Any]:
    """`dataset_path` and `dataset_kwargs`, with each local path replaced by base name and content."""
    kwargs = config.get("dataset_kwargs")
    if isinstance(kwargs, dict):
        kwargs = {
            key: _content(value) if key in ("data_files", "data_dir") else _without_place(value)
            for key, value in kwargs.items()
        }
    path = config.get("dataset_path")
    local = isinstance(path, str) and os.path.exists(path)
    return {"path": _content(path) if local else _without_place(path), "kwargs": kwargs}


def _content(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _content(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_content(item) for item in value]
    if not isinstance(value, str):
        return value
    if os.path.isdir(value):
        return _directory(value)
    if os.path.isfile(value):
        return _file(value)
    matches = sorted(glob.glob(value, recursive=True)) if glob.has_magic(value) else []
    files = [_file(match) for match in matches if os.path.isfile(match)]
    return files or _without_place(value)


def _without_place(value: Any) -> Any:
    return os.path.basename(value) if isinstance(value, str) and os.path.isabs(value) else value


def _file(path: str) -> dict[str, str]:
    status = os.stat(path)
    digest = _sha256_at(os.path.realpath(path), status.st_mtime_ns, status.st_size)
    return {"name": os.path.basename(path), "sha256": digest}


def _directory(path: str) -> dict[str, Any]:
    files = sorted(
        os.path.join(where, name) for where, _, names in os.walk(path) for name in names
    )
    sizes = [os.path.getsize(file) for file in files]
    digest = hashlib.sha256()
    for file, size in zip(files, sizes):
        content = _file(file)["sha256"] if sum(sizes) <= _MAX_HASHED_BYTES else ""
        digest.update(f"{os.path.relpath(file, path)}\0{size}\0{content}\n".encode())
    return {"name": os.path.basename(path.rstrip("/")), "sha256": digest.hexdigest()}


@lru_cache(maxsize=65536)
def _sha256_at(path: str, _mtime_ns: int, _size: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
