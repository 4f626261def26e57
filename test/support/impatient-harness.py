"""
The harness with less patience for children that were stopped: what it waits for 30 s, it waits for half a second here.

    python test/support/impatient-harness.py -B …/eval_hive_harness/__main__.py
"""

import os
import runpy
import sys

sys.argv = sys.argv[2:]
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(sys.argv[0]))))

from eval_hive_harness import child_state  # noqa: E402

child_state._STOPPED_S = 0.5

runpy.run_path(sys.argv[0], run_name="__main__")
