#!/usr/bin/env bash
# Real speech that anyone may download: AN4 to transcribe, CREMA-D to name the emotion, one model for both, on a speech
# encoder that has learned to transcribe AN4.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

exec ./slm.sh \
    --nj 2 --nproc 2 \
    --train_sets "train_an4 train_crema_d" \
    --valid_sets "dev_an4 dev_crema_d" \
    --test_sets "test_an4 test_crema_d" \
    --pretrain_config conf/train_encoder.yaml \
    --train_config conf/train.yaml \
    --inference_config conf/decode.yaml \
    --tokenizer_type bpe --vocab_size 150 \
    "$@"
