#!/usr/bin/env bash
# Stage 1 of this recipe: LibriSpeech and a fold of IEMOCAP, from where db.sh says that they lie, as data folders.
#
# Every option, with its value in brackets:

# shellcheck source-path=SCRIPTDIR/..
set -euo pipefail

# Options
datadir=data      # folder for the data folders
subsets=          # of LibriSpeech, separated by commas
protocol=superb   # how IEMOCAP is split; see run.sh
fold=1            # fold of the protocol
download=false    # true: download the subsets that are not there
check_counts=true # false: a piece of a subset of LibriSpeech will do
nj=4              # chapters of LibriSpeech read at a time
# End of options

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. utils/parse_options.sh
. utils/corpora.sh
parse_options local/data.sh "$@"
. ./path.sh
. ./db.sh

prepare_librispeech "$datadir" "$subsets" "$download" "$check_counts" "$nj"
names=(train=train_iemocap test=test_iemocap)
[[ $protocol == emobox ]] || names+=(dev=dev_iemocap) # emobox has no development set
"$PYTHON" -m harmonifuse_espnet.bin.prepare_data iemocap "$IEMOCAP" "$datadir" --protocol "$protocol" --fold "$fold" \
    --set_names "${names[@]}"
