#!/usr/bin/env bash
# Stage 1 of this recipe: one fold of IEMOCAP. db.sh sets its location.
#
# Options, with their values in brackets:

# shellcheck source-path=SCRIPTDIR/..
set -euo pipefail

# Options
datadir=data    # parent folder of the data folders
protocol=superb # split of IEMOCAP: superb, emobox, loso10 or espnet
fold=1          # fold of the protocol
labels=4        # emotion classes; see run.sh
train_tasks=ser # ser, asr, or both, separated by commas
# End of options

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. utils/corpora.sh
parse_options local/data.sh "$@"
. ./path.sh
. ./db.sh
IFS=, read -ra names <<<"$train_tasks"
IFS=, read -ra label_list <<<"$labels"

for name in "${names[@]}"; do
    options=(--labels "${label_list[@]}")
    [[ $name != asr ]] || options=(--text_case lower) # all transcribed turns, with any emotion label
    prepare_iemocap "$datadir" "$protocol" "$fold" "$name" --task "$name" "${options[@]}"
done
