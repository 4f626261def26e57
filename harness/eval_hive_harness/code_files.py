"""Which Python files a task's functions come from, found by reading alone: nothing is imported."""

from __future__ import annotations

import ast
import importlib.util
import os
from functools import lru_cache

from .task_yaml import FunctionRef


def code_files(refs: list[FunctionRef]) -> list[str]:
    """
    Files of these functions and of the modules that those import, as far as they lie beside them or among lm_eval's
    tasks. Resolved paths, sorted. Installed packages are not followed.
    """
    found: set[str] = set()
    waiting = [path for ref in refs if (path := module_file(ref)) is not None]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        status = os.stat(path)
        waiting.extend(_imports(path, status.st_mtime_ns, status.st_size))
    return sorted(found)


def module_file(ref: FunctionRef) -> str | None:
    """The file that lm_eval takes for this reference: beside the YAML file first, else one of its own tasks'."""
    module = ref.spec.rpartition(".")[0]
    beside = os.path.realpath(os.path.join(ref.directory, module.replace(".", "/") + ".py"))
    return beside if os.path.isfile(beside) else _task_module(module)


@lru_cache(maxsize=1)
def _package_parent() -> str:
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or spec.origin is None:
        return ""
    return os.path.dirname(os.path.dirname(os.path.realpath(spec.origin)))


def _task_module(module: str) -> str | None:
    if not module.startswith("lm_eval.tasks."):
        return None
    path = os.path.join(_package_parent(), module.replace(".", "/"))
    return next((p for p in (path + ".py", path + "/__init__.py") if os.path.isfile(p)), None)


@lru_cache(maxsize=4096)
def _imports(path: str, _mtime_ns: int, _size: int) -> tuple[str, ...]:
    with open(path, "rb") as stream:
        try:
            tree = ast.parse(stream.read())
        except (SyntaxError, ValueError):
            return ()
    found: list[str] = []
    for node in ast.walk(tree):
        for level, module in _imported_modules(node):
            candidate = _local_module(os.path.dirname(path), level, module)
            if candidate is not None:
                found.append(candidate)
    return tuple(found)


def _imported_modules(node: ast.AST) -> list[tuple[int, str]]:
    if isinstance(node, ast.Import):
        return [(0, alias.name) for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    module = node.module or ""
    # `from package import name`: name may be a module.
    names = [f"{module}.{alias.name}".lstrip(".") for alias in node.names]
    return [(node.level, name) for name in ([module] if module else []) + names]


def _local_module(directory: str, level: int, module: str) -> str | None:
    if level == 0 and module.startswith("lm_eval."):
        return _task_module(module)
    for _ in range(level - 1):
        directory = os.path.dirname(directory)
    path = os.path.realpath(os.path.join(directory, module.replace(".", "/")) + ".py")
    return path if os.path.isfile(path) else None
