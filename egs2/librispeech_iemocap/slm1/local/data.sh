#!/usr/bin/env bash
# Stage 1 of this recipe: LibriSpeech, and one fold of IEMOCAP. db.sh sets their locations.
#
# Options, with their values in brackets; the options for LibriSpeech are listed after them:

# shellcheck source-path=SCRIPTDIR/..
set -euo pipefail

# Options
datadir=data    # parent folder of the data folders
protocol=superb # split of IEMOCAP: superb, emobox, loso10 or espnet
fold=1          # fold of the protocol
# End of options

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. utils/corpora.sh
parse_own_options local/data.sh "$@"

./utils/prepare_librispeech.sh --datadir "$datadir" "${others[@]}"
[[ $help_requested == false ]] || exit 0
. ./path.sh
. ./db.sh
prepare_iemocap "$datadir" "$protocol" "$fold" iemocap
