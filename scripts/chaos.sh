#!/bin/sh
# npm run chaos -- --seed N --faults M: kills processes of a real run at random points and looks for loss.
set -eu
. "$(dirname "$0")/bootstrap.sh"
need_node
need_python
cd "$ROOT"
sh scripts/build.sh
unset NODE_OPTIONS
export PATH="$(dirname "$NODE"):$PATH" EVAL_HIVE_PYTHON="$ROOT/.venv/bin/python"
exec "$NODE" scripts/chaos.ts "$@"
