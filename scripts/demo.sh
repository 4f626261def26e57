#!/bin/sh
# npm run demo: trains small language models, evaluates them with eval-hive on this machine, and shows how they learn.
set -eu
. "$(dirname "$0")/bootstrap.sh"
need_node
need_python
cd "$ROOT"
unset NODE_OPTIONS
export EVAL_HIVE_NODE="$NODE" EVAL_HIVE_PYTHON="$ROOT/.venv/bin/python"
built=dist/agent.mjs
[ -f "$built" ] && [ -z "$(find src -newer "$built" -print -quit)" ] || sh scripts/build.sh

"$NODE" examples/demo/train.ts --output runs/demo-models
# A demo that was interrupted goes on; one that has ended starts anew.
if [ -f runs/demo/scores.parquet ]; then rm -rf runs/demo; fi
bin/eval-hive run examples/demo/eh_config.yaml --output runs/demo
bin/eval-hive collect runs/demo
"$NODE" examples/demo/curves.ts runs/demo/scores.parquet

cat <<END

Scores: $ROOT/runs/demo/scores.parquet

Try next:
  bin/eval-hive status runs/demo                # what ran, where and how long
  bin/eval-hive run examples/demo/eh_config.yaml --output runs/demo   # nothing is left to do, and it knows
  bin/eval-hive validate-config examples/demo/eh_config.yaml    # the config to start your own from
END
