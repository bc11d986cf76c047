#!/usr/bin/env bash
# Create a virtual environment with harmonifuse_espnet, unless a complete one exists.
# Usage: set_up.sh <folder of the environment> [<Python interpreter to create it with>]
set -euo pipefail

die() { printf 'error: %s\n' "$*" >&2; exit 1; }

(($# >= 1)) || die "usage: set_up.sh <folder of the environment> [<Python interpreter>]"
venv=$1
base_python=${2:-python3}
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$tools")
done_file=$venv/harmonifuse.done # contains the key and the folder of the installed clone; written last

command -v "$base_python" >/dev/null ||
    die "no Python called '$base_python'; specify one: make -C tools BASE_PYTHON=/path/to/python3 ..."
key=$("$base_python" "$tools/env_key.py")
made_key='' made_root=''
if [[ -f $done_file ]] && "$venv/bin/python" -c '' 2>/dev/null; then
    { read -r made_key && IFS= read -r made_root; } <"$done_file" || true
fi
[[ $made_key == "$key" && $made_root == "$root" ]] && exit 0

cd "$tools"
if [[ $made_key == "$key" ]]; then
    echo "Set-up: installing $root in $venv"
    rm -f "$done_file"
    "$venv/bin/python" -m pip install --quiet --no-deps --no-build-isolation -e ..
else
    if [[ -e $venv && ! -f $venv/pyvenv.cfg && -n $(ls -A "$venv") ]]; then
        die "$venv is neither empty nor a virtual environment;" \
            "specify another folder: make -C tools VENV=/path/to/folder ..."
    fi
    echo "Set-up: creating $venv (only once; takes a few minutes and about 7 GB)"
    rm -f "$done_file"
    "$base_python" -m venv --clear "$venv" ||
        die "'$base_python -m venv' failed; on Debian and Ubuntu, install python3-venv"
    "$venv/bin/python" -m pip install --quiet -c constraints.txt setuptools
    "$venv/bin/python" -m pip install --quiet -c constraints.txt -e "..[dev,demo]"
fi
printf '%s\n%s\n' "$key" "$root" >"$done_file"
echo "Set-up: done in $SECONDS s"
