#!/usr/bin/env bash
# Stage 1 of this recipe: create a synthetic corpus, and convert it to data folders with the readers of LibriSpeech
# and IEMOCAP. A second call creates only the missing parts.
#
# Options, with their values in brackets:

# shellcheck source-path=SCRIPTDIR/..
set -euo pipefail

# Options
datadir=data      # parent folder of the data folders
corpus_dir=corpus # folder in which LibriSpeech/ and IEMOCAP_full_release/ are created
seed=0            # random seed of voices, sentences and emotions
scale=1           # factor by which the number of sentences is multiplied
nj=2              # parallel processes
# End of options

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. utils/parse_options.sh
parse_options local/data.sh "$@"
. ./path.sh
. ./db.sh

prepare() { "$PYTHON" -m harmonifuse_espnet.bin.prepare_data "$@"; }

"$PYTHON" local/make_corpus.py --seed "$seed" --scale "$scale" --nj "$nj" "$corpus_dir"
prepare librispeech "$corpus_dir/LibriSpeech" "$datadir" \
    --set_names train_mini=train_asr dev_mini=dev_asr test_mini=test_asr
prepare iemocap "$corpus_dir/IEMOCAP_full_release" "$datadir" --protocol custom --check_counts false \
    --split 'test_ser_voices=^Ses05' 'test_ser_sentences=_script03' 'dev_ser=_script02' 'train_ser=.'
