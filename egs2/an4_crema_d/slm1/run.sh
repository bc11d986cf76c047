#!/usr/bin/env bash
# One model for speech recognition on AN4 and emotion recognition on CREMA-D, two corpora that are free to download. Its
# speech encoder is pre-trained for speech recognition on AN4.

# shellcheck source-path=SCRIPTDIR
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ./db.sh

test_sets="test_an4 test_crema_d" # and test_crema_d_more, if its corpus exists or stage 1 has prepared it
[[ ! -d $CREMA_D_MORE && ! -d data/test_crema_d_more ]] || test_sets+=" test_crema_d_more"

exec ./slm.sh \
    --nj 2 --nproc 2 \
    --train_sets "train_an4 train_crema_d" \
    --valid_sets "dev_an4 dev_crema_d" \
    --test_sets "$test_sets" \
    --pretrain_config conf/train_encoder.yaml \
    --train_config conf/train.yaml \
    --inference_config conf/decode.yaml \
    --tokenizer_type bpe --vocab_size 150 \
    "$@"
