#!/usr/bin/env bash
# The paper's setting: one model for speech recognition on LibriSpeech and emotion recognition on IEMOCAP, with a frozen
# WavLM-Large and a pre-trained language model with LoRA.
#
# Examples: ./run.sh --ngpu 1                          100 hours of LibriSpeech, fold 1 of IEMOCAP
#           ./run.sh --ngpu 4 --train_set train_960    960 hours
#           ./run.sh --ngpu 1 --folds all              all folds; RESULTS.md has their mean
#
# Options of this recipe, with their values in brackets; the options that all recipes have are listed after them:

# shellcheck source-path=SCRIPTDIR
set -euo pipefail

# Options
train_set=train_clean_100 # train_clean_100, train_clean_460 or train_960
protocol=superb           # split of IEMOCAP: superb, emobox, loso10 or espnet
fold=1                    # test fold of IEMOCAP
folds=                    # folds to run one after another, such as "1 2", or all; overrides --fold
local_data_opts=          # more options for local/data.sh, such as "--download true"
# End of options

cd "$(dirname "${BASH_SOURCE[0]}")"
. utils/corpora.sh
parse_own_options run.sh "$@"
librispeech_sets "$train_set"
iemocap_validation "$protocol"

numbers=$(fold_list "$protocol" "$fold" "$folds")
for number in $numbers; do
    name=${train_set}_${protocol}_fold$number
    ./slm.sh \
        --local_data_opts "--protocol $protocol --fold $number $local_data_opts --subsets $subsets" \
        --train_sets "$train_sets train_iemocap" \
        --valid_sets "$valid_sets ${valid_part}_iemocap" \
        --test_sets "$test_sets test_iemocap" \
        --datadir "data/$name" --dumpdir "dump/$name" --expdir "exp/$name" \
        --folds_expdir "exp/${train_set}_${protocol}_fold*" \
        --audio_format original \
        --tokenizer_type llm --ctc_tokenizer_type unigram --ctc_vocab_size 500 --feats_normalize none \
        --train_config conf/train.yaml --inference_config conf/decode.yaml --inference_model "$model" \
        "${others[@]}"
done
