#compdef dv
# Completion of dv for zsh: in ~/.zshrc, eval "$(dv completion zsh)"
_dv_completion() {
    local line kind value text
    local -a plain described paths folders fields
    for line in "${(@f)$(COMP_LINE="${(pj:\n:)${(@Q)words[1,CURRENT]}}" \
            _DV_COMPLETE=zsh_complete ${words[1]} 2>/dev/null)}"; do
        fields=("${(@ps:\t:)line}")
        kind=$fields[1] value=$fields[2] text=$fields[3]
        [[ -n $value ]] || continue
        case $kind in
            path) paths+=("$value") ;;
            folder) folders+=("${value%/}") ;;
            *) if [[ -n $text ]]; then described+=("${value//:/\\:}:$text")
               else plain+=("$value"); fi ;;
        esac
    done
    (( $#described )) && _describe -V value described
    (( $#plain )) && compadd -V values -a plain
    (( $#paths )) && compadd -V values -a paths
    (( $#folders )) && compadd -V values -S / -q -a folders
    return 0
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _dv_completion "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit -u }
    compdef _dv_completion dv
fi
