"""Files without a name, which get theirs once they are complete, so that no crash leaves a part."""

from __future__ import annotations

import errno
import os

from dvtool.system.stat import Stamp
from dvtool.workspace.new_file import settled_time
from dvtool.workspace.opener import CLOEXEC

UNNAMED_FLAGS = os.O_WRONLY | getattr(os, "O_TMPFILE", 0) | CLOEXEC
DESCRIPTORS = "/proc/self/fd"
UNKNOWN_SIZE = -1
"""In the stamp of a file that has to be read again: no file has this size."""
_NO_UNNAMED = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL, errno.ENOSYS})
"""How a filesystem, or an old kernel, says that it has no files without names."""
_NO_LINK = frozenset(
    {errno.ENOSYS, errno.ENOENT, errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP, errno.EMLINK}
)
"""Why such a file may get no name, though it could be made: no /proc, no links, a folder gone."""


class UnnamedFiles:
    """Makes such files below one worktree, as long as its disk has them (`available`)."""

    def __init__(self) -> None:
        self.available = hasattr(os, "O_TMPFILE") and os.path.isdir(DESCRIPTORS)
        self._exact_times = False
        """Whether the disk was seen to take a time to the nanosecond."""

    def open(self, folder: int, executable: bool) -> int:
        """Make a file without a name, -1 if there are none here."""
        if not self.available:
            return -1
        try:
            return os.open(".", UNNAMED_FLAGS, 0o777 if executable else 0o666, dir_fd=folder)
        except OSError as error:
            if error.errno not in _NO_UNNAMED:
                raise
            self.available = False
            return -1

    def give_name(self, fd: int, name: str, folder: int) -> Stamp | None:
        """Give a complete file its name, unless something has it; return the file's stamp.

        The first file shows whether the disk takes every nanosecond. If so, one stat, after all
        else, says of the next ones that nothing has written to them since their time was set.
        """
        exact = self._exact_times
        if exact:
            complete = os.fstat(fd)
            os.utime(fd, ns=(complete.st_atime_ns, complete.st_mtime_ns - 1))
        else:
            written = os.fstat(fd)
            complete = settled_time(fd) or written
            self._exact_times = complete.st_mtime_ns == written.st_mtime_ns - 1
        try:
            os.link(f"{DESCRIPTORS}/{fd}", name, dst_dir_fd=folder)
        except FileExistsError:
            return None
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            self.available = False
            return None
        # The new name moved the ctime; whatever else moved, somebody else did.
        now = os.fstat(fd)
        mtime_ns = complete.st_mtime_ns - exact
        ours = mtime_ns == now.st_mtime_ns and complete.st_size == now.st_size
        settled = exact or complete.st_mtime_ns < written.st_mtime_ns
        size = complete.st_size if ours and settled else UNKNOWN_SIZE
        return Stamp(mtime_ns, now.st_ctime_ns, size, complete.st_ino)
