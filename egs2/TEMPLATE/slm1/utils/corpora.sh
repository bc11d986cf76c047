# shellcheck shell=bash disable=SC2034
# Shared by the recipes on LibriSpeech and IEMOCAP. Source it from a recipe's folder.

# shellcheck source-path=SCRIPTDIR/..
. utils/parse_options.sh

# librispeech_sets <train_set>: set train_sets, valid_sets, test_sets, and `subsets`, LibriSpeech's names of all of them
librispeech_sets() {
    case $1 in
        train_clean_100) train_sets="train_clean_100" ;;
        train_clean_460) train_sets="train_clean_100 train_clean_360" ;;
        train_960) train_sets="train_clean_100 train_clean_360 train_other_500" ;;
        *) die "--train_set is '$1', but must be one of: train_clean_100 train_clean_460 train_960" ;;
    esac
    valid_sets="dev_clean dev_other"
    test_sets="test_clean test_other"
    subsets="$train_sets $valid_sets $test_sets"
    subsets=${subsets// /,}
    subsets=${subsets//_/-}
}

# fold_list <protocol> <fold> <folds>: print the folds to run; <folds> overrides <fold>, and may be `all`
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
            die "protocol $1 has folds 1 to $count, got '$one' (--fold takes one; --folds takes several, or all)"
        fi
        echo "$one"
    done
}

# iemocap_validation <protocol>: set `valid_part`, the part of a fold for validation, and `model`, the checkpoint to use
iemocap_validation() {
    valid_part=dev model=valid.acc.ave.pth
    [[ $1 != emobox ]] || valid_part=train model=latest.pth # no development set: use the last epoch
}

# prepare_iemocap <datadir> <protocol> <fold> <name> <options>...: create train_<name>, dev_<name> and test_<name>
prepare_iemocap() {
    local sets=("train=train_$4" "test=test_$4")
    [[ $2 == emobox ]] || sets+=("dev=dev_$4") # emobox has no development set
    "$PYTHON" -m harmonifuse_espnet.bin.prepare_data iemocap "$IEMOCAP" "$1" --protocol "$2" --fold "$3" "${@:5}" \
        --set_names "${sets[@]}"
}
