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
parse_options local/data.sh "$@"
. ./path.sh
. ./db.sh
IFS=, read -ra subset_list <<<"$subsets"

if [[ $download == true ]]; then
    [[ ${LIBRISPEECH##*/} == LibriSpeech ]] || die "LIBRISPEECH is '$LIBRISPEECH', but the download makes a folder" \
        "LibriSpeech; set it to such a path, in the environment or in db.sh"
    "$PYTHON" -m harmonifuse_espnet.bin.download librispeech "$(dirname "$LIBRISPEECH")" --subsets "${subset_list[@]}"
fi
"$PYTHON" -m harmonifuse_espnet.bin.prepare_data librispeech "$LIBRISPEECH" "$datadir" --subsets "${subset_list[@]}" \
    --text_case lower --check_counts "$check_counts" --nj "$nj"
names=(train=train_iemocap test=test_iemocap)
[[ $protocol == emobox ]] || names+=(dev=dev_iemocap) # emobox has no development set
"$PYTHON" -m harmonifuse_espnet.bin.prepare_data iemocap "$IEMOCAP" "$datadir" --protocol "$protocol" --fold "$fold" \
    --set_names "${names[@]}"
