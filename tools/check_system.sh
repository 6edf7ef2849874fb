#!/usr/bin/env bash
# Says which system packages are missing, with the one command that installs them. Needs no Python.
# usage: tools/check_system.sh            fails when one is missing
#        tools/check_system.sh --list     prints the missing packages' names only
set -euo pipefail

missing=()
# Listed once and kept: in a pipe, `grep -q` leaves at its first match, and under pipefail the
# ldconfig that it cut off made a library that is there look missing, on a busy machine.
libraries=$(ldconfig -p 2>/dev/null || /sbin/ldconfig -p)
has_library() {
    grep -q "$1" <<<"$libraries"
}
command -v g++ >/dev/null || missing+=(g++)
command -v make >/dev/null || missing+=(make)
has_library 'libEGL\.so\.1' || missing+=(libegl1)
has_library 'libGL\.so\.1' || missing+=(libgl1)
has_library 'libOpenGL\.so\.0' || missing+=(libopengl0)
# A vendor's own EGL driver does in place of Mesa's.
has_library 'libEGL_mesa\.so\.0\|libEGL_nvidia\.so\.0' || missing+=(libegl-mesa0 libgl1-mesa-dri)

if [ "${1:-}" = --list ]; then
    echo "${missing[*]}"
elif [ "${#missing[@]}" -gt 0 ]; then
    echo "error: system packages are missing (building messages, headless rendering): ${missing[*]}" >&2
    echo "install them: sudo apt-get update && sudo apt-get install -y ${missing[*]}" >&2
    exit 1
fi
