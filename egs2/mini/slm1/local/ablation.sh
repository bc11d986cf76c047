#!/usr/bin/env bash
# Does it harmonise? The variants of conf/ablation.yaml, trained for a short while, decoded and compared in RESULTS.md:
# one seed each, two runs at a time, four epochs. Options override that.
#
# For example: ./local/ablation.sh                                                all of it
#              ./local/ablation.sh --variants "harmonifuse naive"                 two trainings
#              ./local/ablation.sh --test_sets "dev_asr dev_ser" --out exp/ablation/dev/RESULTS.md
#              ./local/ablation.sh --help                                         every option

# shellcheck source-path=SCRIPTDIR/..
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. ./path.sh
# total_steps is num_iters_per_epoch x max_epoch; the other keys of scheduler_conf stay
exec "$PYTHON" -m harmonifuse_espnet.bin.compare --seeds 1 --jobs 2 \
    --train_args "--max_epoch 4 --scheduler_conf total_steps=800" "$@"
