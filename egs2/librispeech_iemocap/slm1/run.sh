#!/usr/bin/env bash
# The paper's setting: one model that transcribes LibriSpeech and names the emotion in IEMOCAP, by a frozen WavLM-Large
# and a pre-trained language model with LoRA.
#
# For example: ./run.sh --ngpu 1                          100 hours of LibriSpeech, the first fold of IEMOCAP
#              ./run.sh --ngpu 4 --train_set train_960    960 hours
#              ./run.sh --ngpu 1 --folds all              every fold, and their mean in RESULTS.md
#
# Options of this recipe, with their values in brackets; those of every recipe follow:

# shellcheck source-path=SCRIPTDIR
set -euo pipefail

# Options
train_set=train_clean_100 # train_clean_100, train_clean_460 or train_960
protocol=superb           # how IEMOCAP is split: superb, emobox, loso10 or espnet
fold=1                    # which fold of IEMOCAP is tested
folds=                    # all, or several such as "1 2": these folds one after the other, in place of --fold
local_data_opts=          # more options for local/data.sh, such as "--download true"
# End of options

cd "$(dirname "${BASH_SOURCE[0]}")"
. utils/parse_options.sh
. utils/corpora.sh
parse_own_options run.sh "$@"

train_sets=$(librispeech_sets "$train_set")
valid_sets="dev_clean dev_other"
test_sets="test_clean test_other"
subsets="$train_sets $valid_sets $test_sets"
subsets=${subsets//_/-}
dev_iemocap=dev_iemocap model=valid.acc.ave.pth
[[ $protocol != emobox ]] || dev_iemocap=train_iemocap model=latest.pth # it has no development set to choose by

numbers=$(fold_list "$protocol" "$fold" "$folds")
for number in $numbers; do
    name=${train_set}_${protocol}_fold$number
    ./slm.sh \
        --local_data_opts "--protocol $protocol --fold $number $local_data_opts --subsets ${subsets// /,}" \
        --train_sets "$train_sets train_iemocap" \
        --valid_sets "$valid_sets $dev_iemocap" \
        --test_sets "$test_sets test_iemocap" \
        --datadir "data/$name" --dumpdir "dump/$name" --expdir "exp/$name" \
        --folds_expdir "exp/${train_set}_${protocol}_fold*" \
        --audio_format original \
        --tokenizer_type llm --ctc_tokenizer_type unigram --ctc_vocab_size 500 --feats_normalize none \
        --train_config conf/train.yaml --inference_config conf/decode.yaml --inference_model "$model" \
        "${others[@]}"
done
