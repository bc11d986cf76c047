#!/usr/bin/env bash
# Emotion recognition on IEMOCAP with a frozen WavLM-Large and a pre-trained language model with LoRA.
#
# Examples: ./run.sh --ngpu 1 --fold 3                     one fold
#           ./run.sh --ngpu 1 --folds all                  all folds; RESULTS.md has their mean
#           ./run.sh --ngpu 1 --train_tasks "ser asr"      speech recognition on IEMOCAP as well
#
# Options of this recipe, with their values in brackets; the options that all recipes have are listed after them:

# shellcheck source-path=SCRIPTDIR
set -euo pipefail

# Options
protocol=superb   # split of IEMOCAP: superb, emobox, loso10 or espnet
fold=1            # test fold
folds=            # folds to run one after another, such as "1 2", or all; overrides --fold
labels=4          # emotion classes: 4 (exc merged into hap), 4_no_exc, 9, or a list such as neu,sad,hap=joy,exc=joy
train_tasks=ser   # ser, asr (IEMOCAP's transcripts), or both: "ser asr"
local_data_opts=  # more options for local/data.sh
# End of options

cd "$(dirname "${BASH_SOURCE[0]}")"
. utils/corpora.sh
parse_own_options run.sh "$@"
iemocap_validation "$protocol"

read -ra names <<<"$train_tasks"
table=(--tasks conf/tasks.yaml)
[[ $train_tasks != *asr* ]] || table=(--tasks conf/tasks_asr.yaml --ctc_tokenizer_type unigram --ctc_vocab_size 300)

kind=${train_tasks// /_}_${labels}_$protocol
numbers=$(fold_list "$protocol" "$fold" "$folds")
for number in $numbers; do
    name=${kind}_fold$number
    data_opts="--protocol $protocol --fold $number --labels $labels $local_data_opts --train_tasks ${train_tasks// /,}"
    ./slm.sh \
        --local_data_opts "$data_opts" \
        --train_sets "${names[*]/#/train_}" \
        --valid_sets "${names[*]/#/${valid_part}_}" \
        --test_sets "${names[*]/#/test_}" \
        --datadir "data/$name" --dumpdir "dump/$name" --expdir "exp/$name" \
        --folds_expdir "exp/${kind}_fold*" \
        --audio_format original \
        "${table[@]}" --tokenizer_type llm --feats_normalize none \
        --train_config conf/train.yaml --inference_config conf/decode.yaml --inference_model "$model" \
        "${others[@]}"
done
