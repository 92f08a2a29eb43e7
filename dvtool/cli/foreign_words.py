"""The words of git, DVC and git-lfs, and the commands that do here what they do there."""

from __future__ import annotations

from collections.abc import Mapping

_ORDINARY_GIT = "that is git's own: git {word} works as ever, and dv's hooks carry the data along"
_PIPELINE = "dv has no pipelines: run your own program, then dv add what it made"

WORDS: Mapping[str, str] = {
    # git
    "commit": "dv add stages the manifests, git commits them: git commit",
    **{
        word: _ORDINARY_GIT.format(word=word)
        for word in (
            *("branch", "switch", "merge", "rebase", "stash", "tag", "reset", "revert", "bisect"),
            *("cherry-pick", "worktree", "submodule", "reflog", "am", "apply", "blame", "notes"),
        )
    },
    "clean": "dv never removes what it does not track: git clean, or rm",
    "sparse-checkout": "run: dv sparse",
    "ls-files": "run: dv ls",
    "ls-tree": "run: dv ls --rev REV",
    "cat-file": "run: dv cat PATH, or dv cat --hash HASH",
    "whatchanged": "run: dv log",
    "rev-parse": "run: git rev-parse, or dv describe",
    "gc-remote": "run: dv gc --remote",
    "stage": "run: dv add PATH",
    "unstage": "run: git restore --staged PATH.dv.json",
    "help": "run: dv --help, or dv COMMAND --help",
    # DVC
    "repro": _PIPELINE,
    "dag": _PIPELINE,
    "freeze": _PIPELINE,
    "unfreeze": _PIPELINE,
    "exp": "an experiment is a git branch or commit here: dv describe names its code and data",
    "experiments": "an experiment is a git branch or commit here: dv describe names its data",
    "queue": _PIPELINE,
    "metrics": "git keeps small files such as metrics: git add; for large ones: dv diff",
    "params": "git keeps small files such as parameters: git add, git diff",
    "plots": "git keeps small files: git add; the data of a plot can be read with dv cat",
    "artifacts": "a revision and a path name an artifact: dv pull REV -- PATH",
    "move": "run: dv mv SOURCE DESTINATION",
    "remove": "run: dv rm PATH (dv remote remove NAME forgets a remote)",
    "list": "run: dv ls",
    "du": "run: dv ls -l",
    "data": "run: dv status (for dvc data status), or dv ls (for dvc data ls)",
    "install": "run: dv hooks install",
    "uninstall": "run: dv hooks uninstall",
    "root": "run: git rev-parse --show-toplevel",
    "version": "run: dv --version",
    "unprotect": "nothing to do: files in the workspace are ordinary files that you may edit",
    "destroy": "take targets out with dv rm (their files stay), the hooks with dv hooks uninstall",
    "check-ignore": "run: dv status -v; .dvignore has the syntax of .gitignore",
    "completions": "run: dv completion bash (or zsh, fish)",
    # git-lfs
    "track": "run: dv add PATH; a target is a folder or file, there are no patterns to track",
    "untrack": "run: dv rm PATH (its files stay)",
    "lock": "dv has no locks: files changed on two branches are merged entry by entry, dv resolve",
    "unlock": "dv has no locks: files changed on two branches are merged entry by entry",
    "locks": "dv has no locks: files changed on two branches are merged entry by entry",
    "prune": "run: dv gc frees what nothing needs; dv drop PATH what the remote provably holds",
    "migrate": "run: git lfs pull, then dv add --untrack PATH",
    "pointer": "run: dv ls -l PATH",
    "smudge": "git needs no filter here: dv pull puts data into the workspace",
    "filter-process": "git needs no filter here: dv pull puts data into the workspace",
    "env": "run: dv doctor, dv config",
    "logs": "run the command again with -vv, or with DV_LOG=FILE in the environment",
    "dedup": "nothing to do: equal content is stored once; dv gc frees what nothing needs",
    # what else people type
    "upload": "run: dv push",
    "download": "run: dv pull, or dv fetch for the local store alone",
    "sync": "run: dv pull, then dv push",
    "save": "run: dv add PATH, then git commit",
    "undo": "run: dv restore PATH",
    "verify": "run: dv fsck",
    "check": "run: dv fsck for what is stored, dv doctor for the machine, dv status for the files",
    "delete": "run: dv rm PATH; with --data the files go too",
    "rename": "run: dv mv SOURCE DESTINATION",
}
"""Word -> the next step. A word that is a command of dv is never looked up here."""

OPTIONS: Mapping[tuple[str, str], str] = {
    ("add", "-A"): "name what to add: dv add -u takes every target; new data by its path",
    ("add", "--all"): "name what to add: dv add -u takes every target; new data by its path",
    ("add", "-f"): "to take what .dvignore leaves out, change .dvignore",
    ("add", "-R"): "a folder is one target: dv add FOLDER",
    ("add", "-o"): "a target stays where its data is: dv add PATH",
    ("add", "-p"): "a file is added whole: dv add PATH",
    ("checkout", "-b"): "branches are git's: git switch -c NAME",
    ("checkout", "-f"): "run: dv checkout --force",
    ("diff", "--cached"): "what is added is in the manifests: dv diff compares HEAD with the files",
    ("diff", "--staged"): "what is added is in the manifests: dv diff compares HEAD with the files",
    ("fetch", "--all"): "name revisions: dv fetch $(git rev-list --all) takes every commit's data",
    ("fetch", "-a"): "name revisions: dv fetch $(git rev-list --all) takes every commit's data",
    ("fetch", "--prune"): "dv gc frees what nothing needs",
    ("fetch", "--recent"): "name revisions: dv fetch main HEAD~1",
    ("fetch", "-r"): "run: dv fetch --remote NAME",
    ("gc", "-w"): "dv gc keeps what the worktrees and every commit need",
    ("gc", "--workspace"): "dv gc keeps what the worktrees and every commit need",
    ("gc", "-c"): "run: dv gc --remote",
    ("gc", "--cloud"): "run: dv gc --remote",
    ("log", "--oneline"): "dv log is short as it is; --max-count limits it",
    ("ls", "-R"): "dv ls lists all that is below a path",
    ("pull", "--rebase"): "git pull --rebase brings the commits, then dv pull the data",
    ("pull", "--all"): "dv pull takes what the workspace lacks; dv fetch REV… other revisions",
    ("pull", "-r"): "run: dv pull --remote NAME",
    ("pull", "-f"): "run: dv pull --force",
    ("push", "-f"): "a push of dv overwrites nothing and needs no force: dv push",
    ("push", "--force"): "a push of dv overwrites nothing and needs no force: dv push",
    ("push", "-u"): "the default remote is a setting: dv config core.remote NAME",
    ("push", "--set-upstream"): "the default remote is a setting: dv config core.remote NAME",
    ("push", "--tags"): "run: dv push --all, or name the tags",
    ("push", "-a"): "run: dv push --all",
    ("push", "-r"): "run: dv push --remote NAME",
    ("rm", "--cached"): "dv rm leaves the files where they are, unless --data is given",
    ("rm", "-r"): "dv rm takes folders too; their files stay, unless --data is given",
    ("rm", "-f"): "run: dv rm --data --force",
    ("status", "-s"): "run: dv status, or dv status --json for programs",
    ("status", "-c"): "dv status says what is not pushed; to ask the remote: dv push --check",
    ("status", "--cloud"): "dv status says what is not pushed; to ask the remote: dv push --check",
}
"""Command and option of git, DVC or git-lfs -> the next step."""
