#!/usr/bin/env bash
# Stage 1 of the mini recipe: make the synthetic corpus, and prepare it as the real releases are prepared.
#
# A second call makes only what is missing. Every option, with its value in brackets:

# shellcheck source-path=SCRIPTDIR/..
set -euo pipefail

# Options
datadir=data      # folder for the data folders
corpus_dir=corpus # where LibriSpeech/ and IEMOCAP_full_release/ are made
seed=0            # seed of voices, sentences and performances
scale=1           # how many sentences, relative to the recipe's
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
