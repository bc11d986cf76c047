#!/usr/bin/env bash
# iemocap.sh <IEMOCAP_full_release> <out> <test session>: prepare four classes as data folders train and test, in the
# style of Kaldi's recipes, with a loop over dialogs.
set -euo pipefail
export LC_ALL=C
source=$1 out=$2 fold=$3

mkdir -p "$out/train" "$out/test"
for file in wav.scp text utt2spk; do
    : >"$out/train/$file"
    : >"$out/test/$file"
done
for session in 1 2 3 4 5; do
    part=train
    [[ $session != "$fold" ]] || part="test"
    for evaluation in "$source/Session$session"/dialog/EmoEvaluation/Ses*.txt; do
        dialog=$(basename "$evaluation" .txt)
        grep '^\[' "$evaluation" | tr -d '\r' | cut -f 2,3 | tr '\t' ' ' | sed 's/ exc$/ hap/' |
            { grep -E ' (ang|hap|neu|sad)$' || true; } >"$out/turns"
        cat "$out/turns" >>"$out/$part/text"
        awk -v folder="$source/Session$session/sentences/wav/$dialog" '{ print $1, folder "/" $1 ".wav" }' \
            "$out/turns" >>"$out/$part/wav.scp"
        awk '{ n = split($1, piece, "_"); print $1, substr($1, 1, 5) substr(piece[n], 1, 1) }' "$out/turns" \
            >>"$out/$part/utt2spk"
    done
done
rm "$out/turns"
for part in train test; do
    while read -r id wav; do
        [[ -f $wav ]] || { echo "error: $id: no file $wav" >&2; exit 1; }
    done <"$out/$part/wav.scp"
    for file in wav.scp text utt2spk; do
        sort -o "$out/$part/$file" "$out/$part/$file"
    done
done
