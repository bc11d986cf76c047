#!/usr/bin/env bash
# Ablation: train and decode the variants of conf/ablation.yaml, and compare them in RESULTS.md.
#
# Examples: ./local/ablation.sh --jobs 2                                       all variants and seeds
#           ./local/ablation.sh --variants "harmonifuse naive" --seeds 1       two training runs
#           ./local/ablation.sh --test_sets "dev_an4 dev_crema_d" --out exp/ablation/dev/RESULTS.md
#           ./local/ablation.sh --help                                         all options

# shellcheck source-path=SCRIPTDIR/..
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. ./path.sh
exec "$PYTHON" -m harmonifuse_espnet.bin.compare "$@"
