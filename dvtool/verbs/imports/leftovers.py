"""Objects that jobs of Spark, Hadoop and the like leave beside their data: told by their names.

The names are whole ones, so that no file of a user is taken for one (decision 072).
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, field

from dvtool.errors import count_text, printable
from dvtool.format.source import DataSource

_NAMES_MAX = 5
TAKE_ALL = "--include '*' --include '_*' --include '.*'"
"""The filters that take leftovers too."""
_HIDDEN = "_."
_SUSPECT = re.compile(r"(?:^|/)(?:[_.]|metadata/)")
# A job is done (Hadoop); what a transaction wrote (Databricks); sums of a file (Hadoop).
_NOTE = re.compile(r"_SUCCESS|_(?P<what>started|committed)_(?P<id>(?:vacuum)?\d+)|\..+\.crc")
_UNFINISHED = re.compile(
    r"_temporary|__magic(?:_job-.+)?|\.spark-staging-.+|\.hive-staging_.+|_impala_insert_staging"
)
_LOGS = {
    "_delta_log": "Delta Lake",
    ".hoodie": "Apache Hudi",
    "_spark_metadata": "Spark's streams",
}
_ICEBERG_LOG = re.compile(r"(?:.*/)?metadata/(?:[^/]+\.metadata\.json|version-hint\.text)")
_FOLDER_SUFFIX = "_$folder$"


@dataclass(slots=True)
class Leftovers:
    """The objects of a listing that jobs left beside their data, and what they say of these jobs.

    `include` are the globs of the source. One that spells the `_` or `.` with which a leftover's
    name begins takes it, as a shell's globs do with hidden files.
    """

    include: tuple[str, ...]
    is_prefix: bool
    objects: int = 0
    """How many were left out."""
    names: list[str] = field(default_factory=list)
    """Some of their names, each once."""
    unfinished: str = ""
    """A folder in which a job keeps what it has not committed."""
    logs: dict[str, str] = field(default_factory=dict)
    """Kinds of tables whose log is there, each with the path of the log."""
    _started: set[str] = field(default_factory=set)
    _committed: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, source: DataSource) -> Leftovers:
        """Return what tells the leftovers of a source: only a prefix of a bucket has any."""
        is_prefix = source.kind == "s3" and source.url.endswith("/") and not source.unpack
        return cls(source.include, is_prefix)

    @property
    def folder_suffixes(self) -> tuple[str, ...]:
        """How the keys of empty objects end that stand for folders."""
        return ("/", _FOLDER_SUFFIX) if self.is_prefix else ("/",)

    def look_at(self, path: str) -> str:
        """Note what a path says of jobs and tables; return the leftover that it is, or is in.

        A path that ends in a slash is that of a folder. Empty if it is no leftover.
        """
        if not self.is_prefix or not _SUSPECT.search(path):
            return ""
        if _ICEBERG_LOG.fullmatch(path):
            self.logs.setdefault("Apache Iceberg", path)
        *folders, name = path.split("/")
        for depth, folder in enumerate(folders, 1):
            if folder in _LOGS:
                self.logs.setdefault(_LOGS[folder], "/".join(folders[:depth]))
            elif _UNFINISHED.fullmatch(folder):
                self.unfinished = self.unfinished or "/".join(folders[:depth])
                return folder
        note = _NOTE.fullmatch(name)
        if note is None:
            return ""
        if note["id"]:
            (self._started if note["what"] == "started" else self._committed).add(note["id"])
        return name

    def leaves_out(self, name: str) -> bool:
        """Whether no glob spells the name of a leftover; it is counted then."""
        if any(_spells(glob, name) for glob in self.include):
            return False
        self.objects += 1
        if name not in self.names and len(self.names) < _NAMES_MAX:
            self.names.append(name)
        return True

    def names_text(self) -> str:
        """Return some of the names of what was left out, for people."""
        return ", ".join(map(printable, self.names))

    def warnings(self) -> list[str]:
        """Return what a person should know of it."""
        said = []
        if self.objects:
            said.append(
                f"left out what jobs leave beside their data: {count_text(self.objects, 'object')} "
                f"({self.names_text()}); to take such too: {TAKE_ALL}"
            )
        sign = f"{self.unfinished}/" if self.unfinished else self._uncommitted()
        if sign:
            said.append(
                f"a job is writing there, or was killed: {printable(sign)} is there. The "
                "data taken may lack files, or have some twice; when the job is done: dv update"
            )
        for kind, path in self.logs.items():
            said.append(
                f"{printable(path)} is the log of a table of {kind}, which alone says which of the "
                "files make the table now: read as plain files they may give rows that were "
                "deleted or replaced"
            )
        return said

    def _uncommitted(self) -> str:
        open_ids = self._started - self._committed
        return f"_started_{min(open_ids)} without _committed_" if open_ids else ""


def _spells(glob: str, name: str) -> bool:
    """Whether a part of a glob spells how a name begins, and matches it."""
    return any(
        part[:1] == name[:1] and part[:1] in _HIDDEN and fnmatch.fnmatchcase(name, part)
        for part in glob.split("/")
        if part
    )
