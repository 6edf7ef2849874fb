#!/usr/bin/env bash
# Builds the interface package wm_vla_msgs into a virtual environment that holds the ROS 2 wheels.
# usage: tools/build_msgs.sh <venv>. Does nothing when its sources have not changed since the last time.
set -euo pipefail

root="$(cd "$(dirname "$0")/.." && pwd)"
venv="$(cd "$1" && pwd)"
source_dir="$root/wm_vla_msgs"
build_dir="$root/build/venv/wm_vla_msgs"
stamp="$venv/.stamps/msgs"
mkdir -p "$root/build"
exec 9>"$root/build/.lock" && flock 9 # two make processes at once: the second finds the work done

key="$(cd "$root" && find wm_vla_msgs tools/build_msgs.sh tools/wheels.cmake requirements/core.lock -type f -print0 |
    sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1)"
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$key" ]; then
    exit 0
fi
for tool in g++ make; do
    command -v "$tool" >/dev/null || {
        echo "error: $tool is missing; install it: sudo apt-get install -y g++ make" >&2
        exit 1
    }
done

echo "building wm_vla_msgs into $venv (about 20 s)"
# A clean folder: CMake's cache remembers the environment that it was configured for.
rm -rf "$build_dir"
mkdir -p "$build_dir" "$venv/.stamps"
log="$build_dir/build.log"
{
    export PATH="$venv/bin:$PATH"
    export AMENT_PREFIX_PATH="$venv" CMAKE_PREFIX_PATH="$venv"
    unset PYTHONPATH COLCON_PREFIX_PATH ROS_DISTRO
    cmake -S "$source_dir" -B "$build_dir" -G "Unix Makefiles" \
        -DCMAKE_BUILD_TYPE=Release \
        -DCMAKE_INSTALL_PREFIX="$venv" \
        -DPython3_EXECUTABLE="$venv/bin/python" \
        -DBUILD_TESTING=OFF \
        -DCMAKE_PROJECT_INCLUDE="$root/tools/wheels.cmake" &&
        cmake --build "$build_dir" --parallel "$(nproc)" --target install &&
        "$venv/bin/python" -c "from wm_vla_msgs.msg import Plan; from wm_vla_msgs.action import ExecuteInstruction"
} >"$log" 2>&1 || {
    tail -n 40 "$log" >&2
    echo "error: building wm_vla_msgs failed; the whole log is $log" >&2
    exit 1
}
echo "$key" >"$stamp"
