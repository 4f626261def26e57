#!/bin/sh
# npm test: installs what is missing, then the gate, then every test. --long: the long forms of the seeded suites too.
set -eu
. "$(dirname "$0")/bootstrap.sh"
[ "${1:-}" = --long ] && { export EVAL_HIVE_LONG=1; shift; }
need_node
need_python
# The older lm_eval of the harness suite shares everything else with .venv.
need_venv "$ROOT/.venv-0.4.12" "$ROOT/scripts/requirements-0.4.12.txt" --no-deps
ls -d "$ROOT"/.venv/lib/python3.*/site-packages > "$(ls -d "$ROOT"/.venv-0.4.12/lib/python3.*/site-packages)/base.pth"
cd "$ROOT"
[ $# -gt 0 ] || sh scripts/check.sh
sh scripts/build.sh
unset NODE_OPTIONS
export PATH="$(dirname "$NODE"):$PATH" EVAL_HIVE_PYTHON="$ROOT/.venv/bin/python"
exec "$NODE" scripts/run-tests.ts "$@"
