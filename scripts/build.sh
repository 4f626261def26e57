#!/bin/sh
# Builds dist/ (the split CLI, the agent, the balancer) with the Node that ships with us. `npm ci` calls it.
set -eu
. "$(dirname "$0")/env.sh"
find_node
[ -n "$NODE" ] || { say "cannot build: no Node 24 found; set EVAL_HIVE_NODE to one"; exit 3; }
exec "$NODE" "$ROOT/scripts/build.ts"
