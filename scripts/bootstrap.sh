# Sourced: installs what is missing and nothing else. A second call costs a few file comparisons.
# Provides need_node and need_python; each says in one line what it cannot install, and returns 3.
. "$(dirname "$0")/env.sh"

need_node() {
  if ! cmp -s "$ROOT/package-lock.json" "$ROOT/node_modules/.eval-hive-lock"; then
    command -v npm >/dev/null 2>&1 || { say "cannot install the Node packages: npm is not on PATH"; return 3; }
    say "installing the Node packages (npm ci)"
    (cd "$ROOT" && npm ci --no-audit --no-fund --loglevel=error) >&2 \
      || { say "cannot install the Node packages: npm ci failed (see above)"; return 3; }
    cp "$ROOT/package-lock.json" "$ROOT/node_modules/.eval-hive-lock"
  fi
  find_node
}

# need_venv DIR REQUIREMENTS [pip options]: a virtual environment that holds exactly these requirements.
need_venv() {
  venv=$1 wanted=$2
  shift 2
  cmp -s "$wanted" "$venv/.eval-hive-requirements" && return 0
  python=${EVAL_HIVE_BOOTSTRAP_PYTHON:-}
  for candidate in python3.11 python3.12 python3.10 python3.13 python3; do
    [ -n "$python" ] && break
    command -v "$candidate" >/dev/null 2>&1 || continue
    "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
      && python=$candidate
  done
  [ -n "$python" ] || { say "cannot install lm_eval: no Python 3.10 to 3.13 with venv on PATH"; return 3; }
  say "installing $(grep -v '^#' "$wanted" | tr '\n' ' ')into $(basename "$venv") with $python"
  rm -rf "$venv"
  "$python" -m venv "$venv" >&2 \
    && "$venv/bin/python" -m pip install -q --disable-pip-version-check "$@" -r "$wanted" >&2 \
    || { say "cannot install lm_eval: pip failed (see above)"; return 3; }
  cp "$wanted" "$venv/.eval-hive-requirements"
}

need_python() {
  need_venv "$ROOT/.venv" "$ROOT/scripts/requirements.txt"
}
