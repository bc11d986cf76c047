#!/usr/bin/env bash
# Convert LibriSpeech to data folders. db.sh sets the location of the corpus.
#
# Options, with their values in brackets:

# shellcheck source-path=SCRIPTDIR/..
set -euo pipefail

# Options
datadir=data      # parent folder of the data folders
subsets=          # subsets of LibriSpeech, separated by commas
download=false    # true: download missing subsets
check_counts=true # false: accept incomplete subsets
nj=4              # number of threads
# End of options

. utils/parse_options.sh
parse_options utils/prepare_librispeech.sh "$@"
. ./path.sh
. ./db.sh
IFS=, read -ra names <<<"$subsets"

if [[ $download == true ]]; then
    [[ ${LIBRISPEECH##*/} == LibriSpeech ]] || die "LIBRISPEECH is '$LIBRISPEECH', but the download creates a folder" \
        "LibriSpeech; set it to a path that ends in it, in the environment or in db.sh"
    "$PYTHON" -m harmonifuse_espnet.bin.download librispeech "$(dirname "$LIBRISPEECH")" --subsets "${names[@]}"
fi
"$PYTHON" -m harmonifuse_espnet.bin.prepare_data librispeech "$LIBRISPEECH" "$datadir" --subsets "${names[@]}" \
    --text_case lower --check_counts "$check_counts" --nj "$nj"
