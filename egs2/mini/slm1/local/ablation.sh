#!/usr/bin/env bash
# Ablation: train and decode the variants of conf/ablation.yaml, and compare them in RESULTS.md. By default,
# each variant is trained with one seed for four epochs, and two runs are in parallel; options override this.
#
# Examples: ./local/ablation.sh                                                all variants
#           ./local/ablation.sh --variants "harmonifuse naive"                 two training runs
#           ./local/ablation.sh --test_sets "dev_asr dev_ser" --out exp/ablation/dev/RESULTS.md
#           ./local/ablation.sh --help                                         all options

# shellcheck source-path=SCRIPTDIR/..
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. ./path.sh
# total_steps is num_iters_per_epoch x max_epoch; the other keys of scheduler_conf keep their values
exec "$PYTHON" -m harmonifuse_espnet.bin.compare --seeds 1 --jobs 2 \
    --train_args "--max_epoch 4 --scheduler_conf total_steps=800" "$@"
