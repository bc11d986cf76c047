#!/usr/bin/env bash
# Stage 1 of this recipe: a fold of IEMOCAP, from where db.sh says that it lies, as data folders.
#
# Every option, with its value in brackets:

# shellcheck source-path=SCRIPTDIR/..
set -euo pipefail

# Options
datadir=data    # folder for the data folders
protocol=superb # how IEMOCAP is split; see run.sh
fold=1          # fold of the protocol
labels=4        # emotions: 4 (excitement merged into happiness), 4_no_exc, 9, or your own: neu,sad,hap=joy,exc=joy
train_tasks=ser # ser, asr, or both, separated by commas
# End of options

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. utils/parse_options.sh
parse_options local/data.sh "$@"
. ./path.sh
. ./db.sh
IFS=, read -ra names <<<"$train_tasks"
IFS=, read -ra label_list <<<"$labels"

for name in "${names[@]}"; do
    options=(--labels "${label_list[@]}")
    [[ $name != asr ]] || options=(--text_case lower) # all turns with words, whatever their emotion
    sets=("train=train_$name" "test=test_$name")
    [[ $protocol == emobox ]] || sets+=("dev=dev_$name") # emobox has no development set
    "$PYTHON" -m harmonifuse_espnet.bin.prepare_data iemocap "$IEMOCAP" "$datadir" --protocol "$protocol" --fold "$fold" \
        --task "$name" "${options[@]}" --set_names "${sets[@]}"
done
