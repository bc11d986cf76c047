#!/usr/bin/env bash
# Train, decode and score one speech language model for several tasks. Usage: ./run.sh [--option value]...
#
# Stages: 1 data, 2 audio format, 3 features, 4 tokenizer, 5 statistics (and pre-training), 6 train, 7 decode,
#         8 score and RESULTS.md, 9 pack, 10 upload. An interrupted stage resumes when it is run again.
# Examples: ./run.sh                                           all stages except the upload
#           ./run.sh --stage 6 --train_args "--max_epoch 3"    train, decode, score, pack
#           ./run.sh --stage 7 --stop_stage 8                  decode and score
#
# The value of an option that holds options of another command, such as --train_args, is split at spaces that are not
# inside quotes or brackets:
#           ./run.sh --train_args "--task_pattern {asr: 2, ser: 1}"
#
# Options, with this recipe's values in brackets:

# shellcheck source-path=SCRIPTDIR
set -euo pipefail
((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404)) || { echo "error: bash 4.4 or newer is needed" >&2; exit 1; }

# Options
# -- Stages, processes and folders
stage=1                # first stage to run
stop_stage=9           # last stage to run; stage 10 uploads the model
nj=4                   # number of parallel processes in stage 2
ngpu=0                 # number of GPUs; 0: run on the CPU
nproc=1                # number of training processes on the CPU (with --ngpu 0), with one thread each
python=                # Python interpreter of the stages; if empty: $PYTHON, else the environment tools/venv
fresh=false            # true: replace tokenizers (stage 4) and trainings (stages 5 and 6) of other data or options
datadir=data           # parent folder of the data folders and tokenizers
dumpdir=dump           # parent folder of the formatted audio and features
expdir=exp             # parent folder of the experiments
folds_expdir=          # cross-validation: pattern of all folds' --expdir, such as 'exp/fold*'; RESULTS.md has the mean
# -- Data
tasks=conf/tasks.yaml  # table of tasks (prompts and targets), a YAML file
train_sets=            # training sets: folders in --datadir, separated by spaces
valid_sets=            # validation sets
test_sets=             # test sets
local_data_opts=       # options for local/data.sh
audio_format=flac      # flac, wav, kaldi_ark, or original (use files with the sampling rate --fs in place)
fs=16000               # sampling rate of the formatted audio, in hertz
min_duration=0.1       # minimum duration of training and validation utterances, in seconds
max_duration=30        # maximum duration of training and validation utterances, in seconds
skip_bad=false         # true: skip unreadable audio and report it; false: stop with an error
# -- Features
feats_type=raw         # raw (waveform), fbank (log-mel) or ssl (hidden states of a frozen encoder)
feats_config=          # feature configuration, a YAML file, for fbank and ssl
feats_normalize=global_mvn # normalisation of log-mel features: global_mvn, or none (for pre-trained encoders)
# -- Tokenizer
tokenizer_type=unigram # unigram, bpe, char, or llm (the tokenizer of the pre-trained language model)
vocab_size=100         # vocabulary size for unigram and bpe
ctc_tokenizer_type=    # tokenizer of the CTC head: unigram, bpe or char; if empty: that of the language model
ctc_vocab_size=100     # vocabulary size of the CTC head for unigram and bpe
llm=                   # pre-trained language model (Hugging Face name or folder); overrides --train_config
encoder=               # pre-trained speech encoder (Hugging Face name or folder); overrides --train_config
# -- Training
train_config=conf/train.yaml # configuration of the model and its training
pretrain_config=       # configuration of a pre-training run in stage 5; stage 6 initialises the speech encoder from it
align=false            # true: forced alignment in stage 5, which augmentation by word recombination needs
train_args=            # more options for training, such as "--max_epoch 3"
plan=false             # true: stage 6 only prints parameters, steps and estimated memory
plan_args=             # more options for the plan: "--device_memory 80GB"; "--steps_measured 5" to estimate the time
tag=                   # experiment folder in --expdir; if empty: named after configuration, features and tokenizer
# -- Decoding and scores
inference_config=conf/decode.yaml        # configuration of the decoding, a YAML file
inference_model=valid.acc.ave.pth        # checkpoint in the folder of the experiment to decode with
inference_tag=         # name of the decode folder, decode_<tag>; if empty: named after configuration and checkpoint
decode_args=           # more options for decoding, such as "--batch_size 4"
results=RESULTS.md     # results file of stage 8; figures are written to images/ in the same folder
# -- Upload
upload_repo=           # Hugging Face repository, user/name
upload_private=false   # true: make the repository private
upload_args=           # more options for the upload, such as "--license cc-by-4.0 --dataset name"
dry_run=false          # true: list the files without uploading them
# End of options

. utils/parse_options.sh
parse_options "${BASH_SOURCE[0]}" "$@"

log() { printf '%(%Y-%m-%dT%H:%M:%S)T %s\n' -1 "$*"; }

# run <array of cmd.sh> <command>...: print a command and run it
run() {
    local -n prefix=$1
    shift
    printf '+'
    printf ' %q' "$@"
    printf '\n'
    "${prefix[@]}" "$@"
}

# module <array of cmd.sh> <command of harmonifuse_espnet.bin> <options>...: print a command and run it
module() { run "$1" "$PYTHON" -m "harmonifuse_espnet.bin.$2" "${@:3}"; }

# need <stage> <stage that creates them> <files>...: check outputs of an earlier stage
need() {
    local file
    for file in "${@:3}"; do
        [[ -s $file ]] || die "stage $1 needs $file, created by stage $2: ./run.sh --stage $2 --stop_stage $2"
    done
}

# need_own <stage> <files>...: check files of the recipe
need_own() {
    local file
    for file in "${@:2}"; do [[ -s $file ]] || die "stage $1 needs $PWD/$file, which is part of the recipe"; done
}

one_of() {
    local name=$1 value
    for value in "${@:2}"; do [[ ${!name} == "$value" ]] && return; done
    die "--$name is '${!name}', but must be one of: ${*:2}"
}

check_options() {
    local name
    for name in stage stop_stage nj ngpu nproc vocab_size ctc_vocab_size fs; do
        [[ ${!name} =~ ^[0-9]+$ ]] || die "--$name is '${!name}', but must be a whole number"
        printf -v "$name" %d "$((10#${!name}))"
    done
    ((stop_stage <= ${#titles[@]})) || stop_stage=${#titles[@]} # ESPnet users write 100 for "all"
    ((stage >= 1 && stage <= stop_stage)) ||
        die "--stage $stage --stop_stage $stop_stage selects no stage; the stages are 1 to ${#titles[@]}"
    ((nj >= 1 && nproc >= 1)) || die "--nj and --nproc must be 1 or more"
    one_of audio_format flac wav kaldi_ark original
    one_of feats_type raw fbank ssl
    one_of feats_normalize global_mvn none
    [[ $feats_type != ssl ]] || feats_normalize=none # ssl features are hidden states, not log-mel frames
    one_of tokenizer_type unigram bpe char llm
    [[ ! $ctc_tokenizer_type ]] || one_of ctc_tokenizer_type unigram bpe char
    for name in fresh skip_bad align plan upload_private dry_run; do one_of "$name" true false; done
    [[ $align == false || ($feats_type == raw && $pretrain_config) ]] ||
        die "--align true needs --feats_type raw and a --pretrain_config that trains speech recognition"
    for name in train_sets valid_sets test_sets; do
        [[ ${!name} ]] || die "--$name is empty; name at least one data set"
    done
    for name in "${test_list[@]}"; do
        [[ $name != train && $name != valid ]] ||
            die "the test set '$name' would overwrite $dumpdir/raw/$name; rename it"
    done
}

# vocabulary <type> <size>: print the name of a trained tokenizer, without the size for characters
vocabulary() { if [[ $1 == char ]]; then echo char; else echo "$1_$2"; fi; }

set_names() {
    local name=${inference_config##*/}
    name=${name%.yaml}
    name=${name#decode}
    name=${name#_}
    case $tokenizer_type in
        llm)
            token_name=${llm:-$(basename "$train_config" .yaml)}
            [[ ! -d $llm ]] || token_name=$(basename "$llm")
            token_name=llm_${token_name//\//_} ;;
        *) token_name=$(vocabulary "$tokenizer_type" "$vocab_size") ;;
    esac
    token_dir=$datadir/token_list/$token_name
    ctc_token_dir=
    [[ ! $ctc_tokenizer_type ]] ||
        ctc_token_dir=$datadir/token_list/ctc_$(vocabulary "$ctc_tokenizer_type" "$ctc_vocab_size")
    token_file=$token_dir/tokens.txt
    [[ $tokenizer_type != llm ]] || token_file=$token_dir/tokenizer_config.json
    feats=$dumpdir/$feats_type
    stats=$expdir/stats_${feats_type}_$token_name
    name_suffix=_${feats_type}_$token_name${ctc_token_dir:+_${ctc_token_dir##*/}}${encoder:+_${encoder##*/}}
    tag=${tag:-$(basename "$train_config" .yaml)$name_suffix}
    pretrained=
    [[ ! $pretrain_config ]] || pretrained=$expdir/$(basename "$pretrain_config" .yaml)$name_suffix/valid.acc.ave.pth
    exp=$expdir/$tag
    model=$exp/$inference_model
    decode_dir=$exp/decode_${inference_tag:-${name:+${name}_}${inference_model%.pth}}
    if [[ $feats_type == raw ]]; then
        feats_stage=2 speech=wav.scp speech_type=sound
        [[ $audio_format != kaldi_ark ]] || speech_type=kaldi_ark
    else
        feats_stage=3 speech=feats.scp speech_type=kaldi_ark
    fi
}

stage_1() {
    local name
    need_own 1 local/data.sh
    run train_cmd ./local/data.sh --datadir "$datadir" "${data_options[@]}"
    for name in "${train_list[@]}" "${valid_list[@]}" "${test_list[@]}"; do
        [[ -s $datadir/$name/wav.scp ]] ||
            die "local/data.sh did not create $datadir/$name, a set of --train_sets, --valid_sets or --test_sets"
    done
}

# format <dump set> <minimum duration> <maximum duration> <sets>...: run stage 2 for one dump set
format() {
    local sets=("${@:4}")
    sets=("${sets[@]/#/$datadir/}")
    need 2 1 "${sets[@]/%//wav.scp}"
    module train_cmd format_audio --out_dir "$dumpdir/raw/$1" --audio_format "$audio_format" --sample_rate "$fs" \
        --min_duration "$2" --max_duration "$3" --skip_bad "$skip_bad" --nj "$nj" "${sets[@]}"
}

stage_2() {
    local name
    format train "$min_duration" "$max_duration" "${train_list[@]}"
    format valid "$min_duration" "$max_duration" "${valid_list[@]}"
    for name in "${test_list[@]}"; do format "$name" 0 inf "$name"; done
}

stage_3() {
    local name options=()
    if [[ $feats_type == raw ]]; then
        log "Skipped: with --feats_type raw, training reads the audio itself"
        return
    fi
    if [[ $feats_config ]]; then
        need_own 3 "$feats_config"
        options=(--config "$feats_config")
    fi
    for name in train valid "${test_list[@]}"; do
        need 3 2 "$dumpdir/raw/$name/wav.scp"
        module train_cmd extract_features --feats_type "$feats_type" --data_dir "$dumpdir/raw/$name" \
            --out_dir "$feats/$name" --ngpu "$((ngpu > 0))" "${options[@]}"
    done
}

stage_4() {
    local options=(--vocab_size "$vocab_size" --model_type "$tokenizer_type")
    [[ $tokenizer_type != llm ]] || options=(--llm_of "$train_config" ${llm:+--llm "$llm"})
    need_own 4 "$tasks" "$train_config"
    need 4 2 "$dumpdir/raw/train/text"
    local texts=(--data_dir "$dumpdir/raw/train" --tasks "$tasks" --fresh "$fresh")
    module train_cmd train_tokenizer "${texts[@]}" --out_dir "$token_dir" "${options[@]}"
    [[ ! $ctc_token_dir ]] || module train_cmd train_tokenizer "${texts[@]}" --out_dir "$ctc_token_dir" \
        --vocab_size "$ctc_vocab_size" --model_type "$ctc_tokenizer_type" --ctc true
}

stage_5() {
    local name options
    need_own 5 "$tasks" "$train_config"
    need 5 4 "$token_file"
    for name in train valid; do
        options=()
        [[ $name == valid || $feats_normalize == none ]] || options=(--feats_stats true)
        need 5 "$feats_stage" "$feats/$name/$speech"
        module train_cmd collect_stats --data_dir "$feats/$name" --tokenizer "$token_dir" --tasks "$tasks" \
            --out_dir "$stats/$name" --train_config "$train_config" --feats_type "$feats_type" "${options[@]}"
    done
    [[ ! $pretrained || $plan == true ]] || train 5 "$pretrain_config" "${pretrained%/*}"
    [[ $align == false || $plan == true ]] || module cuda_cmd align --data_dir "$feats/train" \
        --train_config "${pretrained%/*}/config.yaml" --model_file "$pretrained" --ngpu "$((ngpu > 0))"
}

# train <stage> <configuration> <folder> <options>...: train, or print the plan
train() {
    local name stage=$1 config=$2 folder=$3 launch=("$PYTHON" -m harmonifuse_espnet.bin.train)
    local options=(--config "$config" --tasks "$tasks" --tokenizer "$token_dir" --output_dir "$folder" --ngpu "$ngpu")
    need_own "$stage" "$tasks" "$config"
    need "$stage" 4 "$token_file"
    for name in train valid; do
        need "$stage" "$feats_stage" "$feats/$name/$speech" "$feats/$name/text" "$feats/$name/utt2task"
        need "$stage" 5 "$stats/$name/speech_shape" "$stats/$name/text_shape"
        options+=(
            "--${name}_data_path_and_name_and_type" "$feats/$name/$speech,speech,$speech_type"
            "--${name}_data_path_and_name_and_type" "$feats/$name/text,text,text"
            "--${name}_data_path_and_name_and_type" "$feats/$name/utt2task,task,text"
            "--${name}_shape_file" "$stats/$name/speech_shape"
            "--${name}_shape_file" "$stats/$name/text_shape"
        )
    done
    options+=(--resume true --fresh "$fresh" ${encoder:+--frontend_conf "model=$encoder"} ${llm:+--decoder_conf "model=$llm"})
    if [[ $ctc_token_dir ]]; then
        need "$stage" 4 "$ctc_token_dir/tokens.txt"
        options+=(--ctc_tokenizer "$ctc_token_dir")
    fi
    if [[ $feats_normalize == global_mvn ]]; then
        need "$stage" 5 "$stats/train/feats_stats.npz"
        options+=(--feats_stats "$stats/train/feats_stats.npz")
    fi
    options+=("${@:4}")
    if [[ $plan == true ]]; then
        module cuda_cmd plan "${options[@]}" "${plan_options[@]}"
        return
    fi
    if ((ngpu == 0 && nproc > 1)); then
        export OMP_NUM_THREADS=1
        launch=("$PYTHON" -m torch.distributed.run --standalone --nproc_per_node "$nproc")
        launch+=(-m harmonifuse_espnet.bin.train)
        options+=(--multiprocessing_distributed false --dist_backend gloo)
    elif ((ngpu > 1)); then
        options+=(--multiprocessing_distributed true)
    fi
    mkdir -p "$folder"
    log "Log: $folder/train.log"
    run cuda_cmd "${launch[@]}" "${options[@]}" 2>&1 | tee -a "$folder/train.log"
}

stage_6() {
    local options=()
    if [[ $pretrained && $plan == false ]]; then
        need 6 5 "$pretrained"
        options=(--init_param "$pretrained:frontend:frontend")
    fi
    train 6 "$train_config" "$exp" "${options[@]}" "${train_options[@]}"
}

stage_7() {
    local name
    need_own 7 "$inference_config"
    need 7 6 "$exp/config.yaml" "$model"
    for name in "${test_list[@]}"; do
        need 7 "$feats_stage" "$feats/$name/$speech"
        module decode_cmd decode --train_config "$exp/config.yaml" --model_file "$model" --data_dir "$feats/$name" \
            --out_dir "$decode_dir/$name" --config "$inference_config" --ngpu "$((ngpu > 0))" \
            --feats_type "$feats_type" "${decode_options[@]}"
    done
}

stage_8() {
    local name training=() experiments=(--exp_dir "$exp")
    [[ ! $folds_expdir ]] || experiments=(--folds "$folds_expdir/$tag")
    [[ ! -d $dumpdir/raw/train ]] || training=(--train_data_dir "$dumpdir/raw/train")
    need_own 8 "$tasks"
    for name in "${test_list[@]}"; do
        need 8 2 "$dumpdir/raw/$name/text"
        need 8 7 "$decode_dir/$name/text"
        module train_cmd score --tasks "$tasks" --data_dir "$dumpdir/raw/$name" --decode_dir "$decode_dir/$name" \
            "${training[@]}"
    done
    module train_cmd write_results "${experiments[@]}" --train_config "$train_config" --out "$results"
}

stage_9() {
    local options=()
    need 9 6 "$exp/config.yaml" "$model"
    [[ ! -s $results ]] || options=(--readme "$results")
    module train_cmd pack --train_config "$exp/config.yaml" --model_file "$model" --out "$exp/model.zip" "${options[@]}"
}

stage_10() {
    [[ $upload_repo ]] || die "stage 10 needs --upload_repo user/name, the Hugging Face repository"
    need 10 9 "$exp/model.zip"
    module train_cmd upload --packed "$exp/model.zip" --repo "$upload_repo" --private "$upload_private" \
        --dry_run "$dry_run" "${upload_options[@]}"
}

# On exit: after a failure or an interruption, log how to resume.
finish() {
    local status=$?
    ((status == 0)) ||
        log "Stage $current (${titles[current]}) did not finish; resume with: ./run.sh --stage $current" >&2
}

titles=(
    [1]=data [2]="audio format" [3]=features [4]=tokenizer [5]="statistics and pre-training"
    [6]=train [7]=decode [8]=score [9]=pack [10]=upload
)
read -ra train_list <<<"$train_sets"
read -ra valid_list <<<"$valid_sets"
read -ra test_list <<<"$test_sets"
declare -a data_options train_options plan_options decode_options upload_options
split_words data_options --local_data_opts "$local_data_opts"
split_words train_options --train_args "$train_args"
split_words plan_options --plan_args "$plan_args"
split_words decode_options --decode_args "$decode_args"
split_words upload_options --upload_args "$upload_args"
check_options
set_names
export PYTHON=${python:-${PYTHON:-}}
. ./path.sh
. ./cmd.sh
SECONDS=0
current=$stage
trap finish EXIT
for ((current = stage; current <= stop_stage; current++)); do
    log "Stage $current: ${titles[current]}"
    "stage_$current"
done
current=$stop_stage
log "Stages $stage to $stop_stage done in $SECONDS s"
