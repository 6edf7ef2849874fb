#!/usr/bin/env bash
# Makes the virtual environment <venv> hold exactly the locked versions and this package, editable.
# usage: tools/make_env.sh <venv>. Does nothing when the locks have not changed since the last time.
set -euo pipefail

UV_VERSION=0.13.8
root="$(cd "$(dirname "$0")/.." && pwd)"
venv="$1"
cd "$root"
mkdir -p build
exec 9>build/.lock && flock 9 # two make processes at once: the second finds the work done

key="$(cat tools/make_env.sh requirements/*.lock setup.py setup.cfg wm_vla_ros/__init__.py | sha256sum | cut -d' ' -f1)"
stamp="$venv/.stamps/env"
if [ -x "$venv/bin/python" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$key" ]; then
    exit 0
fi

# A guard variable inherited from another environment would keep this one from finding its ROS libraries.
unset _ROS_WHEELS_BOOTSTRAP_COMPLETE VIRTUAL_ENV PYTHONPATH PYTHONHOME

if ! "$venv/bin/python" -c 'import sys; raise SystemExit(sys.version_info[:2] != (3, 12))' 2>/dev/null; then
    if [ -e "$venv" ] && [ ! -f "$venv/pyvenv.cfg" ]; then
        echo "error: $venv exists and is not a virtual environment; move it away" >&2
        exit 1
    fi
    python="$(tools/find_python.sh)" || {
        cat >&2 <<'MESSAGE'
error: no Python 3.12 with its headers was found. One of these brings it:
  Ubuntu 24.04:  sudo apt-get install -y python3.12 python3.12-venv python3.12-dev
  pyenv:         pyenv install 3.12
  any machine:   sudo apt-get install -y python3-venv    (uv then fetches its own Python 3.12)
  elsewhere:     make env PYTHON=/path/to/python3.12
MESSAGE
        exit 1
    }
    echo "making $venv with $python"
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi

"$venv/bin/python" -c "from importlib.metadata import version; raise SystemExit(version('uv') != '$UV_VERSION')" \
    2>/dev/null || "$venv/bin/python" -m pip install -q --disable-pip-version-check "uv==$UV_VERSION"
echo "installing the locked packages into $venv (6 GB; a minute or more the first time)"
uv=("$venv/bin/uv" pip)
"${uv[@]}" install -q --python "$venv/bin/python" --no-deps -r requirements/core.lock -r requirements/dev.lock
"${uv[@]}" install -q --python "$venv/bin/python" --no-deps --no-build-isolation -e .
mkdir -p "$venv/.stamps"
echo "$key" >"$stamp"
