# shellcheck shell=bash disable=SC2034
# What comes before a command, for a cluster; nothing runs it here. An array, one word an element, for example
#     cuda_cmd=(srun --partition gpu --gres gpu:1 --cpus-per-task 8)
# The command must stay in the foreground, keep its exit status, and see this file system.

train_cmd=()  # stages 1 to 5, 8 to 10: data, features, tokenizer, statistics, scores
cuda_cmd=()   # stage 6: training
decode_cmd=() # stage 7: decoding
