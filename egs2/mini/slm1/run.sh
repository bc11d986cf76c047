#!/usr/bin/env bash
# The demo: one model for speech and emotion recognition on synthetic speech, trained in minutes on a CPU.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

exec ./slm.sh \
    --nj 2 --nproc 2 \
    --train_sets "train_asr train_ser" \
    --valid_sets "dev_asr dev_ser" \
    --test_sets "test_asr test_ser_sentences test_ser_voices" \
    --train_config conf/train.yaml \
    --inference_config conf/decode.yaml \
    --tokenizer_type bpe --vocab_size 200 --ctc_tokenizer_type char \
    "$@"
