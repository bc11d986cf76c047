#!/usr/bin/env bash
# Ablation: train and decode the variants of conf/ablation.yaml, and compare them in RESULTS.md.
#
# Examples: ./local/ablation.sh --jobs 2                                       all variants and seeds
#           ./local/ablation.sh --variants "harmonifuse naive" --seeds 1       two training runs
#           ./local/ablation.sh --test_sets "dev_an4 dev_crema_d" --out exp/ablation/dev/RESULTS.md
#           ./local/ablation.sh --help                                         all options
#
# The test sets are those of conf/ablation.yaml, and test_crema_d_more if its corpus exists (CREMA_D_MORE in db.sh) or
# stage 1 has prepared it; with another --config, name the test sets with --test_sets.

# shellcheck source-path=SCRIPTDIR/..
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. ./path.sh
. ./db.sh

test_sets=()
[[ ! -d $CREMA_D_MORE && ! -d data/test_crema_d_more ]] ||
    test_sets=(--test_sets "test_an4 test_crema_d test_crema_d_more")
exec "$PYTHON" -m harmonifuse_espnet.bin.compare "${test_sets[@]}" "$@"
