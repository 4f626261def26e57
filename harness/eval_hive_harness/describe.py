"""What there is to say about a leaf without loading its data."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import lm_eval.api.metrics  # noqa: F401 fills the registries
from lm_eval.api import registry as lm_eval_registry
from lm_eval.config.task import TaskConfig

from .arguments import effective_num_fewshot
from .code_files import module_file
from .overrides import is_json_scalar
from .task_yaml import FunctionRef

# lm_eval's API models look for the first, then the second (models/openai_completions.py).
_GENERATION_LIMITS = ("max_tokens", "max_gen_toks", "max_new_tokens")


def describe_leaf(
    config: dict[str, Any], num_fewshot: int | None, gen_kwargs: dict[str, Any]
) -> dict[str, Any]:
    """
    The fields of a planned leaf that come from its merged config; `num_fewshot` and `gen_kwargs` are the command
    line's. Raises TypeError when lm_eval would refuse the config for a key that it does not know.
    """
    if "class" in config:
        return _describe_python(config, num_fewshot)
    task = _task_config(config)
    generation = None
    if task.output_type == "generate_until":
        generation = _jsonable({**(task.generation_kwargs or {}), **gen_kwargs})
    return {
        "output_type": task.output_type,
        "dataset": {"path": _text(task.dataset_path), "name": _text(task.dataset_name)},
        "num_fewshot": effective_num_fewshot(task.num_fewshot, num_fewshot),
        "max_gen_toks": _max_gen_toks(generation),
        "generation_kwargs": generation,
        "repeats": int(task.repeats),
        "filters": [str(entry["name"]) for entry in task.filter_list or []] or ["none"],
        "metrics": _metrics(task),
        "unsafe_code": task.unsafe_code is not False,
        "python_class": None,
        "version": _version(config, "Yaml"),
    }


def _describe_python(config: dict[str, Any], num_fewshot: int | None) -> dict[str, Any]:
    """A class says what it does only once it is built, so what its YAML file leaves open stays unknown."""
    return {
        "output_type": _text(config.get("output_type")),
        "dataset": {
            "path": _text(config.get("dataset_path")),
            "name": _text(config.get("dataset_name")),
        },
        "num_fewshot": effective_num_fewshot(config.get("num_fewshot"), num_fewshot),
        "max_gen_toks": None,
        "generation_kwargs": None,
        "repeats": 1,
        "filters": ["none"],
        "metrics": [],
        "unsafe_code": config.get("unsafe_code", False) is not False,
        "python_class": _class_name(config["class"]),
        "version": _version(config, None),
    }


def _task_config(config: dict[str, Any]) -> TaskConfig:
    """lm_eval's own record, so that its defaults and its refusals are lm_eval's."""
    values = {key: deepcopy(value) for key, value in config.items()}
    for key in ("tag", "group", "task_list"):
        values.pop(key, None)
    return TaskConfig(**values)


def _metrics(task: TaskConfig) -> list[dict[str, Any]]:
    if task.metric_list is None:
        defaults = _registered("DEFAULT_METRIC_REGISTRY", task.output_type)
        return [_metric(name, {}) for name in defaults or []]
    return [_metric(_name(entry["metric"]), entry) for entry in task.metric_list]


def _metric(name: str, given: dict[str, Any]) -> dict[str, Any]:
    higher = given.get("higher_is_better", _registered("HIGHER_IS_BETTER_REGISTRY", name))
    aggregation = given["aggregation"] if "aggregation" in given else _default_aggregation(name)
    return {
        "metric": name,
        "aggregation": None if aggregation is None else _name(aggregation),
        "higher_is_better": higher if isinstance(higher, bool) else None,
    }


def _default_aggregation(metric: str) -> str | None:
    function = _registered("METRIC_AGGREGATION_REGISTRY", metric)
    known = lm_eval_registry.AGGREGATION_REGISTRY.items()
    return next((name for name, other in known if function is not None and other is function), None)


def _registered(registry: str, name: str) -> Any:
    """None for a name of the task's own, which lm_eval's registries answer with an exception."""
    known = getattr(lm_eval_registry, registry)
    return known[name] if name in known else None


def _name(value: Any) -> str:
    return value.spec.rpartition(".")[2] if isinstance(value, FunctionRef) else str(value)


def _class_name(value: Any) -> str:
    if not isinstance(value, FunctionRef):
        return str(value)
    module = module_file(value)
    return f"{module}:{value.spec.rpartition('.')[2]}" if module is not None else value.spec


def _max_gen_toks(generation: dict[str, Any] | None) -> int | None:
    given = [generation[key] for key in _GENERATION_LIMITS if generation and key in generation]
    return given[0] if given and isinstance(given[0], int) else None


def _version(config: dict[str, Any], default: str | None) -> Any:
    metadata = config.get("metadata")
    version = metadata.get("version", default) if isinstance(metadata, dict) else default
    return version if is_json_scalar(version) else str(version)


def _text(value: Any) -> str | None:
    return None if value is None else _name(value)


def _jsonable(value: Any) -> Any:
    if isinstance(value, FunctionRef):
        return {"!function": value.spec}
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    return value if is_json_scalar(value) else str(value)
