#!/usr/bin/env bash
# Stage 1 of this recipe: AN4 and CREMA-D. db.sh sets their locations.
#
# Options, with their values in brackets:

# shellcheck source-path=SCRIPTDIR/..
set -euo pipefail

# Options
datadir=data   # parent folder of the data folders
download=false # true: download a missing corpus
# End of options

cd "$(dirname "${BASH_SOURCE[0]}")/.."
. utils/parse_options.sh
parse_options local/data.sh "$@"
. ./path.sh
. ./db.sh

[[ -d $CREMA_D_MORE || $CREMA_D_MORE == downloads/crema_d_more ]] ||
    die "CREMA_D_MORE: '$CREMA_D_MORE' does not exist. Set it in the environment or in db.sh to a folder with AudioWAV/," \
        "or unset it to leave out the test set test_crema_d_more"

# to_download <name> <folder> <file in it> <URL>: fail if the corpus exists; stop if it is missing and download is false
to_download() {
    [[ ! -e $2/$3 ]] || return 1
    [[ $download == true ]] || die "$1: '$2/$3' does not exist. Set $1 in the environment or in db.sh to the folder" \
        "of the corpus, or download it from $4 with --download true (in run.sh: --local_data_opts '--download true')"
    echo "$1: downloading $4 to $2"
    mkdir -p "$(dirname "$2")"
}

if to_download AN4 "$AN4" etc/an4_train.fileids "$AN4_URL"; then
    archive=$AN4.tar.gz
    if [[ ! -e $archive ]]; then
        curl --fail --location --continue-at - --output "$archive.part" "$AN4_URL"
        mv "$archive.part" "$archive"
    fi
    mkdir -p "$AN4.unfinished"
    tar -xzf "$archive" --strip-components 1 -C "$AN4.unfinished"
    mv "$AN4.unfinished" "$AN4"
fi
if to_download CREMA_D "$CREMA_D" AudioWAV "$CREMA_D_URL"; then
    git lfs version >/dev/null || die "CREMA_D: git-lfs is needed to download it (https://git-lfs.com)"
    clone=$CREMA_D.unfinished
    export GIT_LFS_SKIP_SMUDGE=1
    [[ -d $clone/.git ]] || git clone --depth 1 --no-checkout "$CREMA_D_URL" "$clone"
    git -C "$clone" lfs fetch --include AudioWAV
    git -C "$clone" checkout --force
    git -C "$clone" lfs checkout AudioWAV
    mv "$clone" "$CREMA_D"
fi

prepare() { "$PYTHON" -m harmonifuse_espnet.bin.prepare_data "$@"; }

prepare an4 "$AN4" "$datadir" --converted_dir downloads/an4_flac \
    --set_names train_nodev=train_an4 train_dev=dev_an4 test=test_an4
prepare crema_d "$CREMA_D" "$datadir" --set_names train=train_crema_d dev=dev_crema_d test=test_crema_d
if [[ -d $CREMA_D_MORE ]]; then
    prepare crema_d "$CREMA_D_MORE" "$datadir" --one_set test --set_names test=test_crema_d_more
else
    echo "CREMA_D_MORE: '$CREMA_D_MORE' does not exist; the test set test_crema_d_more is not prepared"
fi
