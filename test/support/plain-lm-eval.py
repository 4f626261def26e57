"""
Plain `lm_eval run`, once per job, each in a fork of one warm process. argv[1] is JSON: a list of jobs with `task`,
`include_path`, `arguments` (a command line without --tasks and --output_path) and `output`. The command line, the seeds and
the files are lm_eval's own; only its index is kept small: built-in tasks are not read.
"""

import functools
import importlib
import importlib.util
import json
import os
import sys

os.environ.setdefault("DISABLE_MULTIPROC", "1")
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import lm_eval.evaluator  # noqa: E402, F401
import lm_eval.models.openai_completions  # noqa: E402, F401
import lm_eval.tasks  # noqa: E402
# Here, so that no job has to import them for itself.
import pytablewriter  # noqa: E402, F401
import scipy.io  # noqa: E402, F401
from lm_eval.__main__ import cli_evaluate  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402, F401

if importlib.util.find_spec("torch") is not None:
    import lm_eval.models.huggingface  # noqa: F401
    import torch.utils.collect_env

    # It asks half a dozen programs about the machine, which nobody compares.
    torch.utils.collect_env.get_pretty_env_info = lambda: "this machine"

for plugin in filter(None, os.environ.get("EVAL_HIVE_PLUGINS", "").split(",")):
    importlib.import_module(plugin)
lm_eval.tasks.TaskManager = functools.partial(lm_eval.tasks.TaskManager, include_defaults=False)
failed = []
for job in json.loads(sys.argv[1]):
    pid = os.fork()
    if pid == 0:
        try:
            sys.argv = ["lm_eval", "run", "--tasks", job["task"], "--include_path", job["include_path"]]
            sys.argv += ["--output_path", job["output"], *job["arguments"]]
            cli_evaluate()
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(pid, 0)[1] != 0:
        failed.append(job["output"])
sys.exit(f"failed: {failed}" if failed else 0)
