"""One git repository, asked and changed by the git program itself.

Git runs the commands; nothing here reads objects or the index on its own, so worktrees,
submodules, SHA-256 repositories and partial clones work as they do in git. Rules:

- Every list is NUL-terminated (``-z``); a path is what `os.fsdecode` makes of its bytes, relative
  to the top of the working tree, ``/``-separated.
- A path goes to git on standard input or after ``--``, always as a literal pathspec. A revision
  goes after ``--end-of-options`` or is turned into a commit id first.
- A repository is found once; later commands are pinned to it by GIT_DIR and GIT_WORK_TREE, so a
  relative GIT_DIR from a hook means the same folder throughout.

`Git` is the handle to a repository, and its methods are defined by subject: `refs` (revisions and
history), `objects`, `manifests`, `index` (and the working tree), `worktrees` (and git's work under
way in each). `config` is about settings, `process` runs git, `listing` reads its answers.
"""

from dvtool.git.listing import (
    EXECUTABLE_MODE,
    FILE_MODES,
    LINK_MODE,
    SHORT_ID_LENGTH,
    SUBMODULE_MODE,
    Commit,
    Overview,
    Staged,
    TreeEntry,
)
from dvtool.git.repository import Git

__all__ = [
    "EXECUTABLE_MODE",
    "FILE_MODES",
    "LINK_MODE",
    "SHORT_ID_LENGTH",
    "SUBMODULE_MODE",
    "Commit",
    "Git",
    "Overview",
    "Staged",
    "TreeEntry",
]
