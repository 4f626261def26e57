"""
Whoever imports transformers waits while it reads its 1,600 files of models, twice, to learn what each of them exports
(transformers/utils/import_utils.py, `define_import_structure`). That is a quarter of the harness's start, and far more on
a network file system. Here the answer is kept between processes, for as long as pip does not touch the installation.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.metadata
import os
import sys
from collections.abc import Callable
from typing import Any

from .kept import keep, read_kept

_IMPORT_UTILS = "transformers.utils.import_utils"
_SCHEMA = 1

# Names of backends that have to be there → module, relative to `models` → names that it exports.
Exports = dict[frozenset[str], dict[str, set[str]]]


def remember_exports(directory: str) -> None:
    """From now on, importing transformers looks into `directory` first. Never fails: without it, all is as without us."""
    if os.path.isabs(directory) and "transformers" not in sys.modules:
        sys.meta_path.insert(0, _Finder(directory))


def default_directory() -> str:
    """EVAL_HIVE_IMPORT_CACHE, else eval-hive's folder of the user's cache. Not absolute when there is no home."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.environ.get("EVAL_HIVE_IMPORT_CACHE") or os.path.join(base, "eval-hive")


class _Finder:
    """Finds one module, as Python does, and lays our function over its own."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name != _IMPORT_UTILS:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.origin is None or not hasattr(spec.loader, "exec_module"):
            return spec
        models = os.path.join(os.path.dirname(os.path.dirname(spec.origin)), "models")
        seal = _seal(models)
        if seal is not None:
            execute = spec.loader.exec_module

            def execute_and_wrap(module: Any) -> None:
                execute(module)
                own = getattr(module, "define_import_structure", None)
                if own is not None:
                    module.define_import_structure = _remembering(own, models, seal, self._directory)

            spec.loader.exec_module = execute_and_wrap
        return spec


def _remembering(own: Callable[..., Exports], models: str, seal: list[Any], directory: str) -> Callable[..., Exports]:
    digest = hashlib.sha256(os.path.abspath(models).encode()).hexdigest()
    file = os.path.join(directory, f"transformers-{digest[:16]}.json")
    kept: list[Any] | None = None

    def define_import_structure(module_path: Any, prefix: str | None = None) -> Exports:
        nonlocal kept
        if os.fspath(module_path) not in (models, os.path.join(models, "__init__.py")):
            return own(module_path, prefix)
        if kept is None:
            known = read_kept(file)
            if not isinstance(known, dict) or known.get("seal") != seal or "exports" not in known:
                known = {"seal": seal, "exports": _to_json(own(models))}
                keep(file, known)
            kept = known["exports"]
        # Made anew: whoever gets it changes it.
        return _from_json(kept, "" if prefix is None else f"{prefix}.")

    return define_import_structure


def _to_json(exports: Exports) -> list[Any]:
    return [
        [sorted(backends), {module: sorted(names) for module, names in modules.items()}]
        for backends, modules in exports.items()
    ]


def _from_json(exports: list[Any], prefix: str) -> Exports:
    return {
        frozenset(backends): {prefix + module: set(names) for module, names in modules.items()}
        for backends, modules in exports
    }


def _seal(models: str) -> list[Any] | None:
    """What differs when other files are installed; None where files may change without it, as in a checkout."""
    try:
        distribution = importlib.metadata.distribution("transformers")
        root = os.path.dirname(os.path.dirname(models))
        metadata = str(distribution._path)  # type: ignore[attr-defined]  # noqa: SLF001 nothing else tells where it lies
        if os.path.realpath(os.path.dirname(metadata)) != os.path.realpath(root):
            return None
        record = os.stat(os.path.join(metadata, "RECORD"))
        return [_SCHEMA, distribution.version, record.st_mtime_ns, record.st_size, os.stat(models).st_mtime_ns]
    except (importlib.metadata.PackageNotFoundError, AttributeError, OSError):
        return None
