# Completion of dv for fish: dv completion fish > ~/.config/fish/completions/dv.fish
function _dv_completion
    set -l words (commandline -opc) (commandline -ct)
    set -l program $words[1]
    for answer in (COMP_LINE=(string join \n -- $words | string collect) _DV_COMPLETE=fish_complete $program 2>/dev/null)
        set -l fields (string split \t -- $answer)
        if test -n "$fields[3]"
            printf '%s\t%s\n' $fields[2] $fields[3]
        else
            printf '%s\n' $fields[2]
        end
    end
end
complete --no-files --command dv --arguments '(_dv_completion)'
