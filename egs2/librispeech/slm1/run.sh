#!/usr/bin/env bash
# Speech recognition on LibriSpeech with a frozen WavLM-Large and a pre-trained language model with LoRA.
#
# Examples: ./run.sh --ngpu 1                          100 hours
#           ./run.sh --ngpu 4 --train_set train_960    960 hours
#
# Options of this recipe, with their values in brackets; the options that all recipes have are listed after them:

# shellcheck source-path=SCRIPTDIR
set -euo pipefail

# Options
train_set=train_clean_100 # train_clean_100, train_clean_460 or train_960
local_data_opts=          # more options for local/data.sh, such as "--download true"
# End of options

cd "$(dirname "${BASH_SOURCE[0]}")"
. utils/corpora.sh
parse_own_options run.sh "$@"
librispeech_sets "$train_set"

exec ./slm.sh \
    --local_data_opts "$local_data_opts --subsets $subsets" \
    --train_sets "$train_sets" --valid_sets "$valid_sets" --test_sets "$test_sets" \
    --datadir "data/$train_set" --dumpdir "dump/$train_set" --expdir "exp/$train_set" \
    --audio_format original \
    --tokenizer_type llm --ctc_tokenizer_type unigram --ctc_vocab_size 500 --feats_normalize none \
    --train_config conf/train.yaml --inference_config conf/decode.yaml \
    "${others[@]}"
