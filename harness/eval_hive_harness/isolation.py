"""
What a task leaves behind in the process and the next leaf must not find: its Python modules with all that they remember (a
generator that was seeded when the module was imported, a cache), what these have registered with lm_eval, environment
variables, the working directory.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from lm_eval.api import registry

# By name of what is in them: two folders of lm_eval's own tasks have a module each that registers the same filter.
_BY_OBJECT = (registry.filter_registry, registry.aggregation_registry, registry.metric_registry)
# What belongs to a metric's name.
_OF_METRICS = (registry.metric_agg_registry, registry.higher_is_better_registry)


class Isolation:
    """The process as it was before its first leaf was loaded."""

    def __init__(self) -> None:
        self._is_known = False

    def restore(self) -> None:
        """What is asked for next is read as if no leaf had been there."""
        if self._is_known:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            self._forget_modules()
            self._restore_settings()

    def begin_leaf(self, *, another_follows: bool) -> None:
        """Call it when the model is there and before the task is loaded."""
        if not self._is_known and not another_follows:
            # To look at every module's name would copy thousands of the parent's pages.
            return
        if self._is_known:
            self._forget_modules()
            self._restore_settings()
            return
        self._is_known = True
        self._modules = frozenset(sys.modules)
        self._environment = dict(os.environ)
        self._directory = os.getcwd()
        self._path = list(sys.path)

    def _forget_modules(self) -> None:
        # A folder that a task has added to the path: another task may mean another file by the same name.
        added = tuple(os.path.realpath(path) + os.sep for path in sys.path if path not in self._path)
        forgotten = {
            name
            for name, module in list(sys.modules.items())
            if name not in self._modules and (_is_of_a_task(name, module) or _is_below(added, module))
        }
        for name in forgotten:
            del sys.modules[name]
        for known in _BY_OBJECT:
            for alias, target in list(known.items()):
                if getattr(target, "__module__", None) in forgotten:
                    del known._objs[alias]
                    if known is registry.metric_registry:
                        _forget_metric(alias)

    def _restore_settings(self) -> None:
        if os.environ != self._environment:
            os.environ.clear()
            os.environ.update(self._environment)
        os.chdir(self._directory)
        sys.path[:] = self._path


def _is_of_a_task(name: str, module: Any) -> bool:
    # lm_eval marks the files that a `!function` names (tasks/_yaml_loader.py); what they import of its tasks is not marked.
    return hasattr(module, "__mtime__") or name.startswith("lm_eval.tasks.")


def _is_below(folders: tuple[str, ...], module: Any) -> bool:
    file = getattr(module, "__file__", None)
    # A package without __init__.py has no file.
    places = [file] if isinstance(file, str) else list(getattr(module, "__path__", ()))
    return bool(folders) and any(os.path.realpath(place).startswith(folders) for place in places)


def _forget_metric(alias: str) -> None:
    for known in _OF_METRICS:
        known._objs.pop(alias, None)
