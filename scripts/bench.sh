#!/bin/sh
# npm run bench -- NAME: installs what is missing, builds, and runs bench/NAME.ts. Without NAME: which there are.
set -eu
. "$(dirname "$0")/bootstrap.sh"
need_node
cd "$ROOT"
unset NODE_OPTIONS
if [ $# -gt 0 ]; then
  need_python
  sh scripts/build.sh
fi
export PATH="$(dirname "$NODE"):$PATH" EVAL_HIVE_NODE="$NODE" EVAL_HIVE_PYTHON="$ROOT/.venv/bin/python"
exec "$NODE" scripts/bench.ts "$@"
