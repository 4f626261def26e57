#!/bin/sh
# npm run test:hf: evaluates a real, tiny Hugging Face checkpoint without a server. Apart from npm test, since torch is a
# large download; it lives in a virtual environment of its own. What can't be installed is said in one line.
set -eu
. "$(dirname "$0")/bootstrap.sh"
need_node
installed=$(need_venv "$ROOT/.venv-hf" "$ROOT/scripts/requirements-hf.txt" 2>&1) || {
  why=$(printf '%s\n' "$installed" | grep -v '^eval-hive:' | tail -n 1)
  say "cannot run test:hf, since .venv-hf can't be made: ${why:-$installed}"
  exit 3
}
cd "$ROOT"
sh scripts/build.sh
unset NODE_OPTIONS
export PATH="$(dirname "$NODE"):$PATH" EVAL_HIVE_PYTHON="$ROOT/.venv-hf/bin/python"
exec "$NODE" --test --test-timeout=1800000 test/hf/*.ts
