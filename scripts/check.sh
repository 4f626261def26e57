#!/bin/sh
# npm run check: the whole gate. Formatting, lint, import cycles and ranks (biome), types (tsc), dead code (knip).
set -eu
. "$(dirname "$0")/bootstrap.sh"
need_node
cd "${CHECK_ROOT:-$ROOT}"
bin=$ROOT/node_modules
run() {
  name=$1
  shift
  "$NODE" "$@" || { say "check failed: $name"; failed=1; }
}
failed=0
run biome "$bin/@biomejs/biome/bin/biome" ci --error-on-warnings .
run tsc "$bin/typescript/bin/tsc" -p .
run knip "$bin/knip/bin/knip.js" --no-progress
exit $failed
