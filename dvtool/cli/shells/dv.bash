# Completion of dv for bash: in ~/.bashrc, eval "$(dv completion bash)"
_dv_completion() {
    local answers kind value help
    COMPREPLY=()
    answers=$(COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" COMP_WORDBREAKS="$COMP_WORDBREAKS" \
        _DV_COMPLETE=bash_complete "$1" 2>/dev/null)
    while IFS=$'\t' read -r kind value help; do
        [[ -n $value ]] || continue
        COMPREPLY+=("$value")
        [[ $kind == plain ]] || compopt -o filenames 2>/dev/null
        [[ $kind == folder ]] && compopt -o nospace 2>/dev/null
    done <<< "$answers"
}
complete -F _dv_completion dv
