#!/usr/bin/env bash
# Emotion recognition on IEMOCAP, by a frozen WavLM-Large and a pre-trained language model with LoRA.
#
# For example: ./run.sh --ngpu 1 --fold 3                     one fold
#              ./run.sh --ngpu 1 --folds all                  every fold, and their mean in RESULTS.md
#              ./run.sh --ngpu 1 --train_tasks "ser asr"      IEMOCAP's own transcripts too
#
# Options of this recipe, with their values in brackets; those of every recipe follow:

# shellcheck source-path=SCRIPTDIR
set -euo pipefail

# Options
protocol=superb   # how IEMOCAP is split: superb, emobox, loso10 or espnet
fold=1            # which fold is tested
folds=            # all, or several such as "1 2": these folds one after the other, in place of --fold
labels=4          # emotions: 4 (excitement as happiness), 4_no_exc, 9, or your own, such as neu,sad,hap=joy,exc=joy
train_tasks=ser   # ser, asr (IEMOCAP's own transcripts), or both: "ser asr"
local_data_opts=  # more options for local/data.sh
# End of options

cd "$(dirname "${BASH_SOURCE[0]}")"
. utils/parse_options.sh
. utils/corpora.sh
parse_own_options run.sh "$@"

read -ra names <<<"$train_tasks"
dev=dev model=valid.acc.ave.pth
[[ $protocol != emobox ]] || dev=train model=latest.pth # it has no development set to choose by
table=(--tasks conf/tasks.yaml)
[[ $train_tasks != *asr* ]] || table=(--tasks conf/tasks_asr.yaml --ctc_tokenizer_type unigram --ctc_vocab_size 300)

kind=${train_tasks// /_}_${labels}_$protocol
numbers=$(fold_list "$protocol" "$fold" "$folds")
for number in $numbers; do
    name=${kind}_fold$number
    ./slm.sh \
        --local_data_opts "--protocol $protocol --fold $number --labels $labels $local_data_opts --train_tasks ${train_tasks// /,}" \
        --train_sets "${names[*]/#/train_}" \
        --valid_sets "${names[*]/#/${dev}_}" \
        --test_sets "${names[*]/#/test_}" \
        --datadir "data/$name" --dumpdir "dump/$name" --expdir "exp/$name" \
        --folds_expdir "exp/${kind}_fold*" \
        --audio_format original \
        "${table[@]}" --tokenizer_type llm --feats_normalize none \
        --train_config conf/train.yaml --inference_config conf/decode.yaml --inference_model "$model" \
        "${others[@]}"
done
