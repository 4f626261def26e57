#!/bin/sh
# Starts server.ts with the Node that ships with eval-hive, or EVAL_HIVE_NODE; the arguments are the server's.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
ROOT=$(dirname "$(dirname "$here")")
. "$ROOT/scripts/env.sh"
find_node
[ -n "$NODE" ] || { say "cannot start the demo's server: no Node 24 found; run npm ci, or set EVAL_HIVE_NODE"; exit 3; }
unset NODE_OPTIONS
exec "$NODE" "$here/server.ts" "$@"
