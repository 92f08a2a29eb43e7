"""The text of the git hooks: POSIX sh, and pure.

Git runs a hook at the top of the worktree, with whatever PATH its caller has. Each script runs the
hook that was there before, then asks git whether the event touches data, and only then starts
Python. A commit or checkout that touches none costs a few milliseconds.

Scripts that run after git begin with a quick look (`_QUICK`), by builtins of the shell alone. The
shell reads a script as it goes: a script that ends there costs little more than the shell's start.
"""

from __future__ import annotations

import shlex

from dvtool.hooks.interpreter import Interpreter

VERSION = 4
"""Goes up with every change of the scripts, so that `install` replaces older ones."""
KEPT_SUFFIX = ".dv-kept"
SCRIPT_MARK = "# dvtool hook, version "

NAMES = (
    "pre-commit",
    "pre-push",
    "post-checkout",
    "post-commit",
    "post-merge",
    "post-rewrite",
    "post-index-change",
)

_HEAD = """\
#!/bin/sh
{mark}{version}: {name}
# `dv hooks uninstall` takes it out and puts back what was here before, which is kept beside this
# as {name}{suffix} and runs first.
name={name}
kept="${{0%/*}}/{name}{suffix}"
{quick}
python={python}
start={start}
"""

# `dv/followed.sh` sets the positional parameters to the manifests that have a record.
_QUICK = """
# Git's folder of this worktree, at whose top hooks run, without asking git.
guess_folder() {
    folder=${GIT_DIR:-.git}
    [ ! -f "$folder" ] || read -r _ folder <"$folder"
}

# Whether a manifest that has a record is newer than that, or gone.
any_newer() {
    . "$folder/dv/followed.sh"
    for path do
        [ -e "$path" ] && [ "$folder/dv/base/$path" -nt "$path" ] || return 0
    done
    return 1
}

# Whether something was put into this worktree, and is in step. Manifests without a record are not
# looked at: post-index-change, which git runs first, does that.
is_settled() {
    guess_folder
    [ -e "$folder/dv/followed.sh" ] && ! any_newer
}
"""

_QUICK_AFTER = """
[ -x "$kept" ] || ! is_settled || exit 0
"""

# Commits with which git begins a worktree, and their data, are told by an id of zeros.
_QUICK_POST_CHECKOUT = """
case $1 in
*[!0]*) [ -x "$kept" ] || ! is_settled || exit 0 ;;
esac
"""

# git runs this each time that it writes its index: also for `git status` and `git add`. Then, and
# where nothing of dv was put into this worktree, only what the shell can do by itself is done.
_QUICK_POST_INDEX_CHANGE = """
if [ ! -x "$kept" ]; then
    [ -z "$DVTOOL_INSIDE" ] || exit 0
    guess_folder
    [ ! -d "$folder" ] || [ -e "$folder/dv/followed.sh" ] || exit 0
    [ "$1" = 1 ] || ! is_settled || exit 0
fi
"""

# A hook that was put over this one may run it, and be kept by it at the same time: not forever.
# With husky 9 the hooks are stubs that find their script by the name that they were started with.
_KEPT = """
here="$PWD $kept"
[ "$DVTOOL_HOOK" != "$here" ] || exit 0

run_kept() {
    [ -x "$kept" ] || return 0
    if [ -f "${0%/*}/h" ]; then
        DVTOOL_HOOK="$here" sh -c '. "$0.dv-kept"' "$0" "$@"
    else
        DVTOOL_HOOK="$here" "$kept" "$@"
    fi
}
"""

# -I: no module comes from the worktree or the environment. 125: dvtool is gone from there; then a
# `dv` of the PATH does it, unless that is the worktree's.
_RUN = """
run_dv() {
    ended=125
    if [ -x "$python" ]; then
        "$python" -I -c "$start" hooks run "$name" "$@"
        ended=$?
    fi
    [ "$ended" -eq 125 ] || return "$ended"
    dv=$(command -v dv)
    case $dv:$(case $dv in /*) PYTHONPATH='' PYTHONHOME='' "$dv" --version 2>/dev/null ;; esac) in
    /*:"dv "[0-9]*)
        PYTHONPATH='' PYTHONHOME='' "$dv" hooks run "$name" "$@"
        return
        ;;
    esac
    echo "dv: this repository keeps data with dvtool, which is not installed here" >&2
    echo "dv: install it (docs/install.md says how), then run: dv hooks install" >&2
    return 125
}

# Git's folder of this worktree, at whose top hooks run: most often without asking git.
find_folder() {
    folder=${GIT_DIR:-.git}
    [ -d "$folder" ] || folder=$(git rev-parse --absolute-git-dir)
}

unset GIT_LITERAL_PATHSPECS GIT_GLOB_PATHSPECS GIT_NOGLOB_PATHSPECS GIT_ICASE_PATHSPECS
"""

_PRE_COMMIT = """
run_kept "$@" || exit

# Sort what is staged, by one program: the ids of the blobs, and a line `//` if the configuration
# may have the limit. Fails if a staged file is the data of a target.
sort_changes() {
    set -- -
    [ ! -f "${GIT_DIR:-.git}/config" ] || set -- "$@" "${GIT_DIR:-.git}/config"
    [ ! -f .dvconfig ] || set -- "$@" ./.dvconfig
    {
        printf '%s\\n' "$targets" //
        printf '%s\\n' "$changes"
    } | awk '
        FNR == 1 { file++ }
        file > 1 { if (tolower($0) ~ /maxfilesize/) limit = 1; next }
        $0 == "//" { staged = 1; next }
        !staged { sub(/[.]dv[.]json"?$/, ""); names[$0]; next }
        NF > 4 {
            blobs = blobs $4 "\\n"
            path = substr($0, index($0, "\\t") + 1)
            sub(/"$/, "", path)
            do if (path in names) { inside = 1; exit }
            while (sub("/[^/]*$", "", path))
        }
        END {
            if (inside) exit 1
            printf "%s", blobs
            if (limit) print "//"
        }' "$@"
}

# Whether one of the blobs is larger than hooks.maxfilesize.
any_large() {
    limit=$DV_HOOKS_MAXFILESIZE
    case $limit:$blobs in
    :*//*) known= ;;
    :*) [ -f "${GIT_DIR:-.git}/config" ] && known=10m || known= ;;
    *) known=$limit ;;
    esac
    limit=${known:-$(
        git config --local --get dv.hooks.maxfilesize ||
            git config --file .dvconfig --get hooks.maxfilesize 2>/dev/null || echo 10m
    )}
    printf '%s\\n' "$blobs" |
        git cat-file --batch-check='%(objectsize)' |
        awk -v limit="$limit" '
            BEGIN {
                unit = tolower(limit)
                max = limit + 0
                if (unit ~ /k/) max *= 1024
                if (unit ~ /m/) max *= 1048576
                if (unit ~ /g/) max *= 1073741824
                if (unit ~ /t/) max *= 1099511627776
            }
            NF == 1 && max > 0 && $1 > max { found = 1 }
            END { exit !found }'
}

# Whether a merge left conflicts, which a commit may hold without a change of their manifests.
any_conflict() {
    find_folder || return 1
    for record in "$folder"/dv/conflicts/*.json; do
        [ ! -e "$record" ] || return 0
    done
    return 1
}

# Whether data may have changed since all of it was as its manifests say: something is newer than
# that moment, or there is more than can be looked at here in a few milliseconds.
any_changed() {
    clean=${GIT_DIR:-.git}
    [ -d "$clean" ] || clean=$(git rev-parse --git-dir)
    clean=$clean/dv/clean
    [ -e "$clean" ] || return 0
    [ ! -e "${clean%/*}/links" ] || return 0
    printf '%s\n' "$targets" | {
        set --
        while IFS= read -r path; do
            case $path in '"'*) exit 0 ;; esac
            set -- "$@" "./$path" "./${path%.dv.json}"
        done
        # All that is newer is told by one program at the end, not by one for each file.
        find "$@" -cnewer "$clean" -exec echo // '{}' + -o -print 2>/dev/null |
            awk '/^\\/\\// || NR > 20000 { found = 1; exit } END { exit !found }'
    }
}

git_plainly() {
    git -c core.quotePath=false "$@"
}

changes=$(git_plainly diff --cached --raw --no-abbrev --no-renames --diff-filter=AMT)
case $changes in
*.dv.json*) ;;
*)
    targets=$(git_plainly ls-files -- '*.dv.json')
    if [ -z "$targets" ]; then
        { [ -n "$changes" ] && [ -f .dvconfig ] && blobs=$(sort_changes) && any_large; } ||
            any_conflict || exit 0
    elif [ -z "$changes" ]; then
        any_changed || any_conflict || exit 0
    elif blobs=$(sort_changes); then
        any_changed || any_large || any_conflict || exit 0
    fi
    ;;
esac

run_dv "$@"
status=$?
# Without dv nothing is known to be wrong with the commit; pre-push stops what must not go out.
[ "$status" -ne 125 ] || exit 0
exit "$status"
"""

_PRE_PUSH = """
refs=$(cat)
give_refs() {
    [ -z "$refs" ] || printf '%s\\n' "$refs"
}

if [ -x "$kept" ]; then
    give_refs | run_kept "$@" || exit
fi

# Whether a commit to be pushed has, or had, a manifest.
any_manifest() {
    new= old=
    while read -r _ mine _ theirs; do
        case $mine in *[!0]*) new="$new $mine" ;; esac
        case $theirs in
        *[!0]*) ! git cat-file -e "$theirs^{commit}" 2>/dev/null || old="$old $theirs" ;;
        esac
    done
    [ -n "$new" ] || return 1
    for commit in $new; do
        ! git ls-tree -r --full-tree --name-only "$commit" 2>/dev/null |
            grep -q '\\.dv\\.json"\\{0,1\\}$' || return 0
    done
    # shellcheck disable=SC2086  # object ids
    found=$(git rev-list -n 1 --full-history $new --not $old --remotes -- '*.dv.json') || return 0
    [ -n "$found" ]
}

give_refs | any_manifest || exit 0

give_refs | run_dv "$@"
status=$?
if [ "$status" -ne 0 ]; then
    echo "dv: the push was stopped, since its data would not be there for others" >&2
    echo "dv: to push without the data: git push --no-verify" >&2
    exit 1
fi
"""

_AFTER = """
# Whether git put a manifest into the worktree, or took one away, that the files do not follow yet:
# whether a manifest is as old as the record of what they follow, or older, or the same.
# The git commands that dv runs are its own business, and so is an index that is not the worktree's.
out_of_step() {
    [ -z "$DVTOOL_INSIDE" ] || return 1
    find_folder || return 1
    case ${GIT_INDEX_FILE:-index} in
    index | .git/index | "$folder/index") ;;
    *) [ "$GIT_INDEX_FILE" -ef "$folder/index" ] || return 1 ;;
    esac
    git -c core.quotePath=false ls-files -t -s -- '*.dv.json' | {
        while read -r tag _ _ stage path; do
            record="$folder/dv/base/$path"
            case $tag$stage$path in
            *\\"*) exit 0 ;;
            S*) [ ! -e "$record" ] || exit 0 ;;
            H0*)
                if [ -e "$path" ] && ! [ "$record" -nt "$path" ]; then
                    cmp -s -- "$record" "$path" || exit 0
                fi
                ;;
            *) [ -n "$(find "$folder/dv/conflicts" -name '*.json' 2>/dev/null)" ] || exit 0 ;;
            esac
        done
        exit 1
    } || any_gone
}

# Whether a manifest that has a record is neither in the worktree nor in git's index.
any_gone() (
    [ -e "$folder/dv/followed.sh" ] || return 1
    . "$folder/dv/followed.sh"
    for path do
        [ -e "$path" ] || [ -n "$(git --literal-pathspecs ls-files -- "$path")" ] || return 0
    done
    return 1
)
"""

_POST_CHECKOUT = """
run_kept "$@"
status=$?
case $1 in
*[!0]*) out_of_step || exit "$status" ;;
*) [ -n "$(git ls-files -- '*.dv.json')" ] || exit "$status" ;;
esac
run_dv "$@"
exit "$status"
"""

# After a commit the worktree is in step, unless git picked, reverted or merged.
_POST_COMMIT = """
run_kept "$@"
status=$?
! is_settled || exit "$status"
out_of_step || exit "$status"
run_dv "$@"
exit "$status"
"""

_POST_MERGE = """
run_kept "$@"
status=$?
out_of_step || exit "$status"
run_dv "$@"
exit "$status"
"""

# An amended commit holds what is in the worktree already.
_POST_REWRITE = """
rewritten=$(cat)
if [ -z "$rewritten" ]; then
    run_kept "$@" </dev/null
else
    printf '%s\\n' "$rewritten" | run_kept "$@"
fi
status=$?
[ "$1" != amend ] || exit "$status"
! is_settled || exit "$status"
out_of_step || exit "$status"
run_dv "$@"
exit "$status"
"""

_POST_INDEX_CHANGE = """
run_kept "$@"
status=$?
[ -z "$DVTOOL_INSIDE" ] || exit "$status"
find_folder || exit "$status"
[ -e "$folder/dv/followed.sh" ] || exit "$status"
[ "$1" = 1 ] || any_newer || exit "$status"
out_of_step || exit "$status"
run_dv "$@"
exit "$status"
"""

_QUICKS = {
    "post-checkout": _QUICK + _QUICK_POST_CHECKOUT,
    "post-commit": _QUICK + _QUICK_AFTER,
    "post-merge": _QUICK + _QUICK_AFTER,
    "post-rewrite": _QUICK,
    "post-index-change": _QUICK + _QUICK_POST_INDEX_CHANGE,
}

_BODIES = {
    "pre-commit": _PRE_COMMIT,
    "pre-push": _PRE_PUSH,
    "post-checkout": _AFTER + _POST_CHECKOUT,
    "post-commit": _AFTER + _POST_COMMIT,
    "post-merge": _AFTER + _POST_MERGE,
    "post-rewrite": _AFTER + _POST_REWRITE,
    "post-index-change": _AFTER + _POST_INDEX_CHANGE,
}


def script(name: str, python: Interpreter) -> bytes:
    """Return the script of a hook, which prefers to run the interpreter `python`."""
    head = _HEAD.format(
        mark=SCRIPT_MARK,
        version=VERSION,
        name=name,
        suffix=KEPT_SUFFIX,
        quick=_QUICKS.get(name, ""),
        python=shlex.quote(python.path),
        start=shlex.quote(python.code),
    )
    return (head + _KEPT + _RUN + _BODIES[name]).encode("utf-8", "surrogateescape")


def version_of(text: bytes) -> int | None:
    """Return the version of a script of ours, None if it is not one."""
    for line in text.split(b"\n", 3)[:3]:
        if line.startswith(SCRIPT_MARK.encode()):
            number = line[len(SCRIPT_MARK) :].partition(b":")[0]
            return int(number) if number.isdigit() else None
    return None
