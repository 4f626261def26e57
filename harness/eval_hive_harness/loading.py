"""Builds the task object of one leaf, without an index of lm_eval's 13,000 files."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._factory import TaskFactory
from lm_eval.tasks._index import Entry, Kind
from lm_eval.tasks._yaml_loader import _import_func_in_yml, load_yaml

from .overrides import decode_overrides
from .task_yaml import FunctionRef

# Never given out, only copied. Classes of installed packages stay in the process; see isolation.py for the others.
_first_configs: WeakKeyDictionary[type, Any] = WeakKeyDictionary()


def load_leaf(leaf: dict[str, Any], metadata: dict[str, Any] | None = None) -> Any:
    """
    The task that plain lm_eval would build for this leaf, its data loaded. `metadata` is what lm_eval gives to its
    TaskManager: model_args with `--metadata` over them. Seed the global generators first: `process_docs` may draw.
    """
    overrides = decode_overrides(leaf["overrides"], _import_function)
    source, name = leaf["source"], leaf["name"]
    if source["kind"] == "inline":
        config = {**overrides, "task": name}
        config["metadata"] = config.get("metadata", {}) | (metadata or {})
        return ConfigurableTask(config=config)
    if source["kind"] == "python":
        _renew_config(load_yaml(source["yaml_path"], resolve_func=True) | overrides)
    kind = Kind.PY_TASK if source["kind"] == "python" else Kind.TASK
    entry = Entry(name=name, kind=kind, yaml_path=Path(source["yaml_path"]))
    # The registry holds a group's members; a task has none.
    return TaskFactory(meta=metadata).build(
        entry, overrides={"task": name, **overrides}, registry={}
    )


def _renew_config(values: dict[str, Any]) -> None:
    """lm_eval writes each leaf's config into the class (api/task.py, ConfigurableTask.__init__): the next one gets another."""
    for owner in values["class"].__mro__:
        if vars(owner).get("CONFIG") is not None:
            owner.CONFIG = deepcopy(_first_configs.setdefault(owner, owner.CONFIG))


def _import_function(ref: FunctionRef) -> Any:
    return _import_func_in_yml(ref.spec, Path(ref.directory))
