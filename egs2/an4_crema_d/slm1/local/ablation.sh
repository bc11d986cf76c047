#!/usr/bin/env bash
# Does it harmonise? Train, decode and score the variants of conf/ablation.yaml, some with several seeds, and write into
# RESULTS.md what they show. A call that was stopped goes on where it was; what is done is not done again.
#
# For example: ./local/ablation.sh --jobs 2                                       all of it
#              ./local/ablation.sh --variants "harmonifuse naive" --seeds 1       two trainings
#              ./local/ablation.sh --test_sets "dev_an4 dev_crema_d" --out exp/ablation/dev/RESULTS.md
#              ./local/ablation.sh --run false                                    only the tables, of what is there
#
# Every option, with its value in brackets:

# shellcheck source-path=SCRIPTDIR/..
set -euo pipefail

# Options
config=conf/ablation.yaml # the variants, and the reference that they are compared with
variants=                 # run these only, names separated by blanks; empty: all
seeds=                    # at most so many seeds of each variant; empty: as many as the config says
jobs=1                    # runs at a time; with several, each has one process of one thread
test_sets=                # test sets in place of the config's, separated by blanks
train_args=               # more options for every training, such as "--max_epoch 3"
run_args=                 # more options for run.sh, such as "--ngpu 1"
expdir=exp/ablation       # folder of the runs: <variant>_seed<k>
out=RESULTS.md            # file to write; its pictures go to images/ beside it
run=true                  # false: only the tables, of what is there
# End of options

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. utils/parse_options.sh
parse_options local/ablation.sh "$@"
. ./path.sh

read -ra names <<<"$variants"
exec "$PYTHON" -m harmonifuse_espnet.bin.compare --config "$config" --jobs "$jobs" ${seeds:+--seeds "$seeds"} \
    --test_sets "$test_sets" --train_args="$train_args" --run_args="$run_args" --expdir "$expdir" --out "$out" \
    --run "$run" --variants "${names[@]}"
