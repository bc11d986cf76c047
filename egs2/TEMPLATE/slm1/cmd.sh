# shellcheck shell=bash disable=SC2034
# Prefixes of the stages' commands, to submit them to a cluster; empty arrays run them on this machine. For example
#     cuda_cmd=(srun --partition gpu --gres gpu:1 --cpus-per-task 8)
# The prefix must run its command in the foreground, return its exit status, and share this file system.

train_cmd=()  # stages 1 to 5, 8 to 10: data, features, tokenizer, statistics, scores
cuda_cmd=()   # stage 6: training
decode_cmd=() # stage 7: decoding
