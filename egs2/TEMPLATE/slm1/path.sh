# shellcheck shell=bash
# Set the Python interpreter of the stages and its environment variables. Source it from a recipe's folder.
# PYTHON selects an interpreter; the default is the environment that `make -C tools venv` creates.

MAIN_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
export MAIN_ROOT
export PYTHON="${PYTHON:-${HARMONIFUSE_VENV:-$MAIN_ROOT/tools/venv}/bin/python}"
if ! command -v "$PYTHON" >/dev/null; then
    echo "error: no Python at '$PYTHON'; create the environment (make -C tools venv), or use another (--python)" >&2
    exit 1
fi
export PYTHONPATH="$MAIN_ROOT${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONIOENCODING=UTF-8
export LC_ALL=C.UTF-8
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)}"
