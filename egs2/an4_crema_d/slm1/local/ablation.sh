#!/usr/bin/env bash
# Does it harmonise? The variants of conf/ablation.yaml, trained, decoded and compared in RESULTS.md.
#
# For example: ./local/ablation.sh --jobs 2                                       all of it
#              ./local/ablation.sh --variants "harmonifuse naive" --seeds 1       two trainings
#              ./local/ablation.sh --test_sets "dev_an4 dev_crema_d" --out exp/ablation/dev/RESULTS.md
#              ./local/ablation.sh --help                                         every option

# shellcheck source-path=SCRIPTDIR/..
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. ./path.sh
exec "$PYTHON" -m harmonifuse_espnet.bin.compare "$@"
