#!/usr/bin/env bash
# Command-line options of a script, declared once, in the script itself, as plain assignments with a comment:
#
#     # Options
#     stage=1          # first stage to run
#     # End of options
#
# `parse_options <script> "$@"` sets them from `--stage 3`; `--help` prints the script's head comment, then every option
# with its comment and present value. Where a script runs another one and has few options of its own, `parse_own_options
# <script> "$@"` sets these and leaves the rest, --help included, in the array `others`. Requires bash >= 4.4.

die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Fill option_names and option_help from the declarations of a script.
_read_declarations() {
    local line inside=
    option_names=() option_help=()
    while IFS= read -r line; do
        case $line in
            '# Options') inside=1 ;;
            '# End of options') break ;;
            *)
                if [[ $inside && $line =~ ^([a-z][a-z0-9_]*)=.*[[:space:]]#\ (.*)$ ]]; then
                    option_names+=("${BASH_REMATCH[1]}") option_help+=("${BASH_REMATCH[2]}")
                elif [[ $inside && $line =~ ^#\ -+\ (.*)$ ]]; then
                    option_names+=('') option_help+=("${BASH_REMATCH[1]}")
                fi ;;
        esac
    done <"$1"
}

_is_option() {
    local name
    for name in "${option_names[@]}"; do [[ $name && $name == "$1" ]] && return 0; done
    return 1
}

# The options that share the beginning of one of their words with an unknown name.
_options_like() {
    local name word found=() words
    IFS=_ read -ra words <<<"$1"
    for name in "${option_names[@]}"; do
        for word in "${words[@]}"; do
            [[ $name && ${#word} -ge 2 && _$name == *_"${word:0:2}"* ]] && found+=("--$name") && break
        done
    done
    printf '%s' "${found[*]:-none}"
}

_print_help() {
    local line index
    while IFS= read -r line; do
        [[ $line == '#!'* ]] && continue
        [[ $line == '#'* ]] || break
        line=${line#\#}
        printf '%s\n' "${line# }"
    done <"$1"
    for index in "${!option_names[@]}"; do
        if [[ ${option_names[index]} ]]; then
            printf '  %-20s %s [%s]\n' "--${option_names[index]}" "${option_help[index]}" "${!option_names[index]}"
        else
            printf '\n%s\n' "${option_help[index]}"
        fi
    done
}

parse_options() {
    local script=$1 name
    local -a option_names option_help
    shift
    _read_declarations "$script"
    while (($#)); do
        case $1 in
            --help | -h) _print_help "$script"; exit 0 ;;
            --?*) ;;
            *) die "unexpected argument '$1'; options are written --name value, and a value with blanks is quoted (see --help)" ;;
        esac
        name=${1#--}
        name=${name//-/_}
        _is_option "$name" || die "unknown option $1; like it: $(_options_like "$name") (all of them: --help)"
        _set_option "$name" "$@"
        shift 2
    done
}

parse_own_options() {
    local script=$1 name
    local -a option_names option_help
    shift
    _read_declarations "$script"
    others=()
    while (($#)); do
        name=${1#--}
        name=${name//-/_}
        if [[ $1 == --?* ]] && _is_option "$name"; then
            _set_option "$name" "$@"
            shift 2
            continue
        fi
        case $1 in --help | -h) _print_help "$script"; echo ;; esac
        others+=("$1")
        shift
    done
}

# _set_option <name> <as written> <value>...
_set_option() {
    (($# >= 3)) || die "option $2 needs a value"
    if [[ $3 == --* ]] && _is_option "${3#--}"; then die "option $2 needs a value, but the option $3 follows"; fi
    printf -v "$1" %s "$3"
}
