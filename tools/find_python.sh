#!/usr/bin/env bash
# Prints the path of a Python 3.12 that can make a virtual environment and compile extensions.
# Looks at $PYTHON, PATH, pyenv, then at what uv has or can fetch. Prints nothing and fails when none is found.
# usage: tools/find_python.sh [--no-fetch]
set -euo pipefail

usable() {
    # A pyenv shim answers to `command -v` even when its version is not selected, hence the trial run.
    "$1" -c '
import os, sys, sysconfig
import ensurepip
header = os.path.join(sysconfig.get_paths()["include"], "Python.h")
raise SystemExit(sys.version_info[:2] != (3, 12) or not os.path.exists(header))
' >/dev/null 2>&1
}

candidates=()
[ -z "${PYTHON:-}" ] || candidates+=("$PYTHON")
candidates+=(python3.12 python3)
pyenv_root="${PYENV_ROOT:-$HOME/.pyenv}"
for path in "$pyenv_root"/versions/3.12*/bin/python3.12; do
    [ ! -x "$path" ] || candidates+=("$path")
done
for candidate in "${candidates[@]}"; do
    if path="$(command -v "$candidate")" && usable "$path"; then
        echo "$path"
        exit 0
    fi
done

[ "${1:-}" != --no-fetch ] || exit 1
# No Python 3.12 here. uv brings its own where the network allows it.
if ! uv="$(command -v uv)"; then
    bootstrap="$(cd "$(dirname "$0")/.." && pwd)/build/bootstrap"
    python3 -m venv "$bootstrap" >&2 && "$bootstrap/bin/python" -m pip install -q uv >&2 || exit 1
    uv="$bootstrap/bin/uv"
fi
"$uv" python install -q 3.12 >&2 && "$uv" python find --no-project 3.12
