#!/usr/bin/env bash
# Command-line options of a script. They are declared once, in the script itself, as assignments with a comment:
#
#     # Options
#     stage=1          # first stage to run
#     # End of options
#
# parse_options <script> "$@"      set the options from arguments such as `--stage 3`; --help prints the comment at the
#                                  top of the script, then every option with its comment and its value
# parse_own_options <script> "$@"  the same for a script that calls another one: the array `others` gets --help and the
#                                  options that the script does not declare; `help_requested` is true after --help
# split_words <array> <name> <text>  split the value of an option that holds options of another command (--train_args)
#
# Requires bash 4.4 or newer.

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

# Print the options that have a word with the same first two letters as a word of an unknown name.
_similar_options() {
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
            *) die "unexpected argument '$1'; write --name value, and quote a value with spaces (see --help)" ;;
        esac
        name=${1#--}
        name=${name//-/_}
        _is_option "$name" || die "unknown option $1; similar options: $(_similar_options "$name") (--help lists all)"
        _set_option "$name" "$@"
        shift 2
    done
}

# shellcheck disable=SC2034 # the caller reads help_requested
parse_own_options() {
    local script=$1 name
    local -a option_names option_help
    shift
    _read_declarations "$script"
    others=() help_requested=false
    while (($#)); do
        name=${1#--}
        name=${name//-/_}
        if [[ $1 == --?* ]] && _is_option "$name"; then
            _set_option "$name" "$@"
            shift 2
            continue
        fi
        case $1 in --help | -h) _print_help "$script"; echo; help_requested=true ;; esac
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

# Words are separated by white space outside '...', "...", {...} and [...]. Quotes are removed, except inside brackets,
# whose content is YAML. Inside brackets, a quote opens a string only where a YAML value may start, so that the ' in
# [it's] is an apostrophe. Backslashes are literal.
split_words() {
    local -n _words=$1
    local name=$2 text=$3 before_value=$' \t\n{[,:\'"'
    local word='' quote='' brackets='' in_word='' previous='' character index # brackets: closing ones still expected
    _words=()
    for ((index = 0; index < ${#text}; index++)); do
        character=${text:index:1}
        if [[ $quote ]]; then
            [[ $character != "$quote" ]] || quote=''
            [[ ! $quote && ! $brackets ]] || word+=$character
        elif [[ ! $brackets && $character == [[:space:]] ]]; then
            [[ ! $in_word ]] || _words+=("$word")
            word='' in_word=''
        else
            in_word=1
            case $character in
                [\'\"])
                    if [[ ! $brackets || $before_value == *"$previous"* ]]; then quote=$character; fi
                    [[ ! $brackets ]] || word+=$character ;;
                '{') brackets="}$brackets" word+=$character ;;
                '[') brackets="]$brackets" word+=$character ;;
                '}' | ']')
                    [[ $character == "${brackets:0:1}" ]] || die "$name: unexpected $character after" \
                        "'${text:0:index}'; balance the brackets, or quote the value"
                    brackets=${brackets:1} word+=$character ;;
                *) word+=$character ;;
            esac
        fi
        previous=$character
    done
    [[ ! $quote ]] || die "$name: no closing $quote in '$text'; close the quote, or put an apostrophe in double quotes"
    [[ ! $brackets ]] || die "$name: no closing ${brackets:0:1} in '$text'; balance the brackets, or quote the value"
    [[ ! $in_word ]] || _words+=("$word")
}
