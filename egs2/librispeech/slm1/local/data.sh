#!/usr/bin/env bash
# Stage 1 of this recipe: LibriSpeech, from where db.sh says that it lies, as data folders.
#
# Every option, with its value in brackets:

# shellcheck source-path=SCRIPTDIR/..
set -euo pipefail

# Options
datadir=data      # folder for the data folders
subsets=          # of LibriSpeech, separated by commas
download=false    # true: download the subsets that are not there
check_counts=true # false: a piece of a subset will do
nj=4              # chapters of LibriSpeech read at a time
# End of options

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. utils/parse_options.sh
. utils/corpora.sh
parse_options local/data.sh "$@"
. ./path.sh
. ./db.sh

prepare_librispeech "$datadir" "$subsets" "$download" "$check_counts" "$nj"
