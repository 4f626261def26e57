"""
Evaluates a batch, leaf after leaf, each as plain `lm_eval run` would alone. lm_eval's simple_evaluate does all of it; it is
given the model where it would build one, and the leaf where it would load one.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import lm_eval.api.registry
import lm_eval.caching.cache
import lm_eval.evaluator
import lm_eval.loggers.utils
from lm_eval.evaluator import simple_evaluate
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager
from lm_eval.utils import hash_string

from . import fingerprint
from .command_line import read_arguments
from .failures import ModelError, Refused, describe_failure, print_failure
from .isolation import Isolation
from .leaf_file import LeafPlace
from .loading import load_leaf
from .models import SharedModel, import_plugins
from .progress import Meter
from .reuse import may_be_followed
from .templates import compiled_once
from .turn import Turn

Say = Callable[[dict[str, Any]], None]


def _ask_once(add_info: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    known: dict[str, Any] = {}

    def add_known_info(storage: dict[str, Any]) -> None:
        if not known:
            add_info(known)
        storage.update(known)

    return add_known_info


# Asking torch about its environment starts half a dozen programs: once per process is enough.
lm_eval.evaluator.add_env_info = _ask_once(lm_eval.evaluator.add_env_info)
# Reads and parses a whole file of metadata.
if hasattr(lm_eval.loggers.utils, "version"):
    lm_eval.loggers.utils.version = lru_cache(lm_eval.loggers.utils.version)


class Session:
    """What a child keeps from one request to the next: the model, and how the process was before its first leaf."""

    def __init__(self) -> None:
        self.model: SharedModel | None = None
        self.isolation = Isolation()


class Batch:
    """One run request. Raises ArgumentsError, Refused or ModelError when none of its leaves can be evaluated."""

    def __init__(self, request: dict[str, Any], session: Session, turn: Turn, say: Say) -> None:
        self._request = request
        self._session = session
        self._say = say
        self.turn = turn
        names = [leaf["name"] for leaf in request["leaves"]]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise Refused("other", f'Leaves of one name never share a child: "{", ".join(twice)}"')
        import_plugins()
        self._arguments = read_arguments(request["evaluation"], os.environ, request["output_dir"])
        self._evaluation_inputs = fingerprint.evaluation_inputs(request["evaluation"])
        self._model = self._share_model()

    def evaluate(self) -> None:
        for index, leaf in enumerate(self._request["leaves"]):
            place = LeafPlace(
                self._request["output_dir"], leaf["id"], leaf["fingerprint"], self._request["owner"]
            )
            if not self._tell_settled(leaf, place):
                with compiled_once() if self._request["engine"] == "fast" else nullcontext():
                    LeafEvaluation(self, index, leaf, place).run()
                if self.another_follows(index):
                    gc.collect()

    def another_follows(self, index: int) -> bool:
        """Whether this process may evaluate a leaf after that one."""
        return index + 1 < len(self._request["leaves"]) or may_be_followed(self._request)

    def say(self, leaf: dict[str, Any], message: dict[str, Any]) -> None:
        kind = message.pop("type")
        self._say({"type": kind, "id": self._request["id"], "leaf": leaf["id"], **message})

    def _share_model(self) -> SharedModel:
        # A resident child gets requests of one evaluation alone, so the model that is there is the right one.
        if self._session.model is None:
            self._session.model = SharedModel(self._arguments.model, self._request)
        return self._session.model

    def _tell_settled(self, leaf: dict[str, Any], place: LeafPlace) -> bool:
        if os.path.exists(place.result):
            self.say(leaf, done_message(place.result, "existing", None, None, 0))
            return True
        if os.path.exists(place.invalid):
            with open(place.invalid, encoding="utf-8") as stream:
                reason = json.load(stream)["eval_hive"]["invalid"]
            self.say(leaf, {"type": "leaf_invalid", "path": place.invalid, "reason": reason})
            return True
        return False


class LeafEvaluation:
    """One leaf. Stands in for lm_eval's TaskManager: `load` and `task_index` are what simple_evaluate asks for."""

    task_index: dict[str, Any] = {}

    def __init__(self, batch: Batch, index: int, leaf: dict[str, Any], place: LeafPlace) -> None:
        self._batch = batch
        self._index = index
        self._leaf = leaf
        self._place = place
        self._inputs: dict[str, Any] = {}

    def run(self) -> None:
        """Evaluates and stores; a failure becomes a message. Raises ModelError."""
        print(f"==== {self._leaf['id']}", flush=True)
        self._tell({"type": "leaf_started"})
        self._meter = Meter(self._tell, self._batch.turn)
        try:
            self._tell(self._evaluate())
        except ModelError:
            raise
        except BaseException as error:  # noqa: BLE001 a task may call sys.exit, and a panic in Rust is no Exception
            print_failure(error)
            self._tell({"type": "leaf_failed", **describe_failure(error, self._meter.phase)})

    def load(self, _names: list[str]) -> dict[str, Any]:
        """Called by simple_evaluate after seeding and after the model: all is as in a run of this leaf alone."""
        self._batch._session.isolation.begin_leaf(another_follows=self._batch.another_follows(self._index))
        self._check_fingerprint()
        arguments = self._batch._arguments
        task = load_leaf(self._leaf, arguments.metadata)
        if getattr(task, "UNSAFE_CODE", False) and not arguments.confirm_run_unsafe_code:
            raise Refused(
                "unsafe-code",
                f'"{self._leaf["name"]}" runs code that the model wrote: set lm_eval_args.confirm_run_unsafe_code to allow it',
            )
        build_requests = task.build_all_requests

        def build_and_count(**options: Any) -> None:
            build_requests(**options)
            self._meter.expect(sum(instance.repeats for instance in task.instances))

        task.build_all_requests = build_and_count
        # Each look at a task's name takes a number from `random` there, so lm_eval has to do the looking.
        return TaskManager(include_defaults=False).load([task])

    def _evaluate(self) -> dict[str, Any]:
        arguments = self._batch._arguments
        tracker = EvaluationTracker()
        self._batch._model.point_to(self._index, self._meter, self._batch._request)
        with _instead_of(lm_eval.api.registry, "get_model", lambda _name: self._batch._model):
            with _instead_of(lm_eval.caching.cache, "PATH", self._request_cache()):
                results = simple_evaluate(
                    model=arguments.model,
                    model_args=arguments.model_args,
                    tasks=[self._leaf["name"]],
                    num_fewshot=arguments.num_fewshot,
                    batch_size=arguments.batch_size,
                    max_batch_size=arguments.max_batch_size,
                    device=arguments.device,
                    use_cache=arguments.use_cache and f"{arguments.use_cache}-{self._cache_key()}",
                    cache_requests=arguments.cache_requests.get("cache_requests", False),
                    rewrite_requests_cache=arguments.cache_requests.get("rewrite_requests_cache", False),
                    delete_requests_cache=arguments.cache_requests.get("delete_requests_cache", False),
                    limit=arguments.limit,
                    samples=arguments.samples,
                    write_out=arguments.write_out,
                    # The hashes of the samples are always kept.
                    log_samples=True,
                    evaluation_tracker=tracker,
                    system_instruction=arguments.system_instruction,
                    apply_chat_template=arguments.apply_chat_template,
                    fewshot_as_multiturn=arguments.fewshot_as_multiturn,
                    gen_kwargs=arguments.gen_kwargs,
                    task_manager=self,
                    verbosity=arguments.verbosity,
                    predict_only=arguments.predict_only,
                    random_seed=arguments.seed[0] if arguments.seed else None,
                    numpy_random_seed=arguments.seed[1] if arguments.seed else None,
                    torch_random_seed=arguments.seed[2] if arguments.seed else None,
                    fewshot_random_seed=arguments.seed[3] if arguments.seed else None,
                    confirm_run_unsafe_code=arguments.confirm_run_unsafe_code,
                    metadata=arguments.metadata,
                )
        results["config"]["use_cache"] = arguments.use_cache
        return self._store(results, tracker)

    def _store(self, results: dict[str, Any], tracker: EvaluationTracker) -> dict[str, Any]:
        """The file that `lm_eval run` would write (EvaluationTracker.save_results_aggregated), and our block."""
        self._meter.enter("writing")
        [(name, samples)] = results.pop("samples").items()
        place, path = self._place, self._place.result
        reason = self._reason_not_to_trust(results["results"][name])
        if reason is not None:
            path = place.invalid
        elif os.path.exists(path):
            return self._done("existing", None, results)
        hashes = [s["doc_hash"] + s["prompt_hash"] + s["target_hash"] for s in samples]
        results["task_hashes"] = {name: hash_string("".join(hashes))}
        tracker.general_config_tracker.log_end_time()
        results.update(asdict(tracker.general_config_tracker))
        keep = self._batch._arguments.log_samples
        results["eval_hive"] = {
            **self._batch._request["record"],
            "fingerprint": self._leaf["fingerprint"],
            "inputs": self._inputs,
            "samples": None,
            **({} if reason is None else {"invalid": reason}),
        }
        created = place.store(results, samples if keep else None, path)
        if reason is not None:
            return {"type": "leaf_invalid", "path": path, "reason": reason}
        outcome = "created" if created else "existing"
        return self._done(outcome, place.samples if keep and created else None, results)

    def _done(self, outcome: str, samples_path: str | None, results: dict[str, Any]) -> dict[str, Any]:
        n_samples = next(iter(results["n-samples"].values()))["effective"]
        return done_message(self._place.result, outcome, samples_path, self._meter, n_samples)

    def _reason_not_to_trust(self, metrics: dict[str, Any]) -> str | None:
        if self._batch._arguments.predict_only:
            return "predict_only: outputs without scores"
        if not any("," in key for key in metrics):
            return "lm_eval gave no metric"
        empty = self._meter.empty_continuations
        if empty > 0:
            return (
                f"{empty} of {self._meter.total} answers have no token of their own: the tokenizer merges them into the "
                "prompt, and they score 0. Change the task's target_delimiter, or the tokenizer"
            )
        return None

    def _check_fingerprint(self) -> None:
        task = fingerprint.task_inputs(self._leaf)
        self._inputs = fingerprint.leaf_inputs(task, self._batch._evaluation_inputs)
        now = fingerprint.fingerprint_of(self._inputs)
        if now != self._leaf["fingerprint"]:
            raise Refused(
                "task-changed",
                f'"{self._leaf["name"]}" is not the task that was planned: {self._leaf["fingerprint"][:16]} is now '
                f"{now[:16]}. Plan again with `create-run --update`",
            )

    def _request_cache(self) -> str:
        root = lm_eval.caching.cache.PATH
        if self._batch._arguments.cache_requests:
            # lm_eval 0.4.12 makes the last folder of a path only.
            os.makedirs(root, exist_ok=True)
        return os.path.join(root, f"requests-{self._cache_key()}")

    def _cache_key(self) -> str:
        """lm_eval's keys leave out most of what decides about a request, so each evaluation gets a cache of its own."""
        arguments = self._batch._arguments
        parts = [self._leaf["fingerprint"], arguments.model, arguments.model_args]
        return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:32]

    def _tell(self, message: dict[str, Any]) -> None:
        self._batch.say(self._leaf, message)


def done_message(
    path: str, outcome: str, samples_path: str | None, meter: Meter | None, n_samples: int
) -> dict[str, Any]:
    return {
        "type": "leaf_done",
        "path": path,
        "outcome": outcome,
        "samples_path": samples_path,
        "n_samples": n_samples,
        "n_requests": meter.total if meter else 0,
        "load_s": round(meter.load_s, 3) if meter else 0.0,
        "requests_s": round(meter.requests_s, 3) if meter else 0.0,
        "total_s": round(meter.total_s, 3) if meter else 0.0,
    }


@contextmanager
def _instead_of(module: Any, name: str, value: Any) -> Iterator[None]:
    original = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, original)
