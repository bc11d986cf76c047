# shellcheck shell=bash disable=SC2034
# Prefixes of the commands of the stages, to submit them to a cluster. With an empty prefix, a command runs on this
# machine. For example
#     cuda_cmd=(srun --partition gpu --gres gpu:1 --cpus-per-task 8)
# The prefix must run its command in the foreground, on a machine with the same file system, and return its exit status.

train_cmd=()  # stages 1 to 5 and 8 to 10: data, features, tokenizer, statistics, scores, packing, upload
cuda_cmd=()   # stages 5 and 6: pre-training, forced alignment, training
decode_cmd=() # stage 7: decoding
