#!/usr/bin/env bash
# librispeech.sh <LibriSpeech/subset> <out>: prepare a subset as a data folder, in the style of Kaldi's recipes, with a
# loop over chapters.
set -euo pipefail
export LC_ALL=C
source=$1 out=$2

mkdir -p "$out"
for file in wav.scp text utt2spk; do
    : >"$out/$file"
done
find "$source" -mindepth 2 -maxdepth 2 -type d | sort | while read -r chapter; do
    name=$(basename "$(dirname "$chapter")")-$(basename "$chapter")
    [[ -f $chapter/$name.trans.txt ]] || { echo "error: no $chapter/$name.trans.txt" >&2; exit 1; }
    find "$chapter" -name '*.flac' ! -name '.*' | sort |
        awk -F / '{ id = $NF; sub(/\.flac$/, "", id); print id, $0 }' >>"$out/wav.scp"
    awk 1 "$chapter/$name.trans.txt" >>"$out/text" # adds a missing newline at the end
    awk -v speaker="$name" '{ print $1, speaker }' "$chapter/$name.trans.txt" >>"$out/utt2spk"
done
for file in wav.scp text utt2spk; do
    sort -o "$out/$file" "$out/$file"
done
cmp -s <(cut -d ' ' -f 1 "$out/wav.scp") <(cut -d ' ' -f 1 "$out/text") || {
    echo "error: $source: audio and transcripts differ" >&2
    exit 1
}
