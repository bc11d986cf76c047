# shellcheck shell=bash
# Source from a recipe's folder: which Python runs the stages, and what it needs in its environment.
# PYTHON names one of your own; otherwise it is the environment that `make -C tools venv` makes.

MAIN_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
export MAIN_ROOT
export PYTHON="${PYTHON:-${HARMONIFUSE_VENV:-$MAIN_ROOT/tools/venv}/bin/python}"
if ! command -v "$PYTHON" >/dev/null; then
    echo "error: there is no Python at '$PYTHON'; make one (make -C tools venv) or name yours (--python or PYTHON=...)" >&2
    exit 1
fi
export PYTHONPATH="$MAIN_ROOT${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONIOENCODING=UTF-8
export LC_ALL=C.UTF-8
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)}"
