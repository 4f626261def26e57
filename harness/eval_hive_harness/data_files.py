"""Local data of a task, by content: a changed file is another evaluation, a moved one is not."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from .code_files import module_file
from .task_yaml import FunctionRef

# Beyond this a directory counts by the names and sizes of its files.
_MAX_HASHED_BYTES = 1 << 30

# dataset_kwargs that name data; `datasets` looks for them from the working directory.
_DATA_KEYS = ("data_files", "data_dir")

# Keys of a task whose function loads the data itself: from where is its own affair, mostly from beside its file.
_LOADERS = ("custom_dataset", "class")

# Values of dataset_path that are a file format, not a data set of the Hub.
_FORMATS = frozenset((
    "json", "csv", "parquet", "arrow", "text", "xml", "pandas", "webdataset", "imagefolder", "audiofolder", "videofolder",
))  # fmt: skip


def data_content(config: dict[str, Any], task_files: Iterable[str] = ()) -> dict[str, Any]:
    """
    `dataset_path` and `dataset_kwargs`, with each local path replaced by base name and content. A task with a loader of
    its own is looked after beside its function and its `task_files` (the YAML file and what it includes) as well; where
    different files of that name are found, all of them count.
    """
    kwargs = config.get("dataset_kwargs")
    places = _places(config, task_files)
    if isinstance(kwargs, dict):
        kwargs = {
            key: _content(value, places) if key in _DATA_KEYS else _argument(value, places)
            for key, value in kwargs.items()
        }
    path = config.get("dataset_path")
    local = isinstance(path, str) and os.path.exists(path)
    return {"path": _content(path, [""]) if local else _without_place(path), "kwargs": kwargs}


def missing_data(config: dict[str, Any], task_files: Iterable[str] = ()) -> list[str]:
    """Local files and directories that `dataset_kwargs` names and that are in none of the places where they count."""
    kwargs, path = config.get("dataset_kwargs"), config.get("dataset_path")
    # Of a data set on the Hub they are files of its repository.
    if not isinstance(kwargs, dict) or not (path is None or path in _FORMATS):
        return []
    places = _places(config, task_files)
    directory = kwargs.get("data_dir")
    if isinstance(directory, str):
        places += [os.path.join(place, directory) for place in places]
    named = [text for key in _DATA_KEYS for text in _texts(kwargs.get(key)) if text and "://" not in text]
    return [
        text
        for text in dict.fromkeys(named)
        if not any(_is_there(os.path.join(place, text)) for place in places)
    ]


def _places(config: dict[str, Any], task_files: Iterable[str]) -> list[str]:
    """Directories that a relative path may start from; "" is the working directory."""
    loaders = [config[key] for key in _LOADERS if isinstance(config.get(key), FunctionRef)]
    if not loaders:
        return [""]
    modules = [path for ref in loaders if (path := module_file(ref)) is not None]
    return list(dict.fromkeys([*map(os.path.dirname, modules), *map(os.path.dirname, task_files), ""]))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _content(value: Any, places: list[str]) -> Any:
    if isinstance(value, dict):
        return {str(key): _content(item, places) for key, item in value.items()}
    if isinstance(value, list):
        return [_content(item, places) for item in value]
    if not isinstance(value, str):
        return value
    return _one_or_all(_found(value, places)) or _without_place(value)


def _argument(value: Any, places: list[str]) -> Any:
    """Any other argument: text that is the name of a file means that file, but only to a loader of the task's own."""
    if places == [""] or not isinstance(value, str):
        return _without_place(value)
    paths = [os.path.join(place, value) for place in places]
    files = _distinct(_file(path) for path in paths if os.path.isfile(path))
    return _one_or_all(files) or _without_place(value)


def _found(name: str, places: list[str]) -> list[Any]:
    """What is there under this name, in whichever place, each content once."""
    if name == "":
        return []
    found: list[Any] = []
    for place in places:
        path = os.path.join(place, name)
        if place == "" and found and os.path.isdir(path):
            # A folder of that name in the working directory may be anybody's, and of any size.
            continue
        content = _content_at(path)
        if content is not None:
            found.append(content)
    return _distinct(found)


def _is_there(path: str) -> bool:
    return os.path.exists(path) or (glob.has_magic(path) and bool(glob.glob(path, recursive=True)))


def _content_at(path: str) -> Any:
    """A record for a file or a directory, a list of them for a pattern, None for what is not there."""
    if os.path.isdir(path):
        return _directory(path)
    if os.path.isfile(path):
        return _file(path)
    matches = sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else []
    return [_file(match) for match in matches if os.path.isfile(match)] or None


def _distinct(values: Iterable[Any]) -> list[Any]:
    distinct: list[Any] = []
    for value in values:
        if value not in distinct:
            distinct.append(value)
    return distinct


def _one_or_all(found: list[Any]) -> Any:
    return found[0] if len(found) == 1 else found


def _without_place(value: Any) -> Any:
    return os.path.basename(value) if isinstance(value, str) and os.path.isabs(value) else value


def _file(path: str) -> dict[str, str]:
    status = os.stat(path)
    digest = _sha256_at(os.path.realpath(path), status.st_mtime_ns, status.st_size)
    return {"name": os.path.basename(path), "sha256": digest}


def _directory(path: str) -> dict[str, Any]:
    # Python writes into a directory of code when a task is loaded: no data.
    files = sorted(
        os.path.join(where, name)
        for where, _, names in os.walk(path)
        if os.path.basename(where) != "__pycache__"
        for name in names
        if os.path.isfile(os.path.join(where, name))
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
