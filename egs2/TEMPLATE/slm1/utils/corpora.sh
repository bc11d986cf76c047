#!/usr/bin/env bash
# What the recipes on LibriSpeech and IEMOCAP share. Requires utils/parse_options.sh.

# librispeech_sets <train_set>: the training sets that it stands for
librispeech_sets() {
    case $1 in
        train_clean_100) echo "train_clean_100" ;;
        train_clean_460) echo "train_clean_100 train_clean_360" ;;
        train_960) echo "train_clean_100 train_clean_360 train_other_500" ;;
        *) die "--train_set is '$1', but must be one of: train_clean_100 train_clean_460 train_960" ;;
    esac
}

# prepare_librispeech <datadir> <subsets, separated by commas> <download> <check_counts> <nj>: for local/data.sh
prepare_librispeech() {
    local chosen
    IFS=, read -ra chosen <<<"$2"
    if [[ $3 == true ]]; then
        [[ ${LIBRISPEECH##*/} == LibriSpeech ]] || die "LIBRISPEECH is '$LIBRISPEECH', but the download makes a folder" \
            "LibriSpeech; set it to such a path, in the environment or in db.sh"
        "$PYTHON" -m harmonifuse_espnet.bin.download librispeech "$(dirname "$LIBRISPEECH")" --subsets "${chosen[@]}"
    fi
    "$PYTHON" -m harmonifuse_espnet.bin.prepare_data librispeech "$LIBRISPEECH" "$1" --subsets "${chosen[@]}" \
        --text_case lower --check_counts "$4" --nj "$5"
}

# fold_list <protocol> <fold> <folds>: the numbers of the folds to run; <folds> goes before <fold>, `all` means all.
fold_list() {
    local count one wanted
    case $1 in
        superb | emobox) count=5 ;;
        loso10) count=10 ;;
        espnet) count=1 ;;
        *) die "--protocol is '$1', but must be one of: superb emobox loso10 espnet" ;;
    esac
    wanted=${3:-$2}
    [[ $wanted != all ]] || wanted=$(seq "$count")
    for one in $wanted; do
        if [[ ! $one =~ ^[0-9]+$ ]] || ((one < 1 || one > count)); then
            die "protocol $1 has folds 1 to $count, got '$one' (--fold takes one, --folds several, or all)"
        fi
        echo "$one"
    done
}
