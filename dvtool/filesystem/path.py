"""`DvPath`: a path in the data of a commit, for universal_pathlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from upath.core import UPath

from dvtool.filesystem.dv import DvFileSystem
from dvtool.filesystem.urls import UrlPart, join_url, split_url


class DvPath(UPath):
    """``UPath("dv://main@data/a.csv")``; the parts are those of the path from the top."""

    __slots__ = ()

    @property
    def path(self) -> str:
        """The path from the top of the repository."""
        path = super().path
        return "" if path == "." else path

    @property
    def parts(self) -> Sequence[str]:
        """The names in the path."""
        parts = super().parts
        return parts[1:] if parts and parts[0] == "/" else parts

    def __str__(self) -> str:
        options = self.storage_options
        return join_url(str(options.get("repo") or ""), str(options.get("rev") or ""), self.path)

    @classmethod
    def _transform_init_args(
        cls, args: tuple[Any, ...], protocol: str, storage_options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], str, dict[str, Any]]:
        if args and isinstance(args[0], str) and args[0].startswith("dv://"):
            url = split_url(args[0])
            options = {k: v for k, v in (("repo", url.repo), ("rev", url.rev)) if v}
            storage_options = {**options, **storage_options}
        return args, protocol, storage_options

    @classmethod
    def _fs_factory(
        cls, urlpath: str, protocol: str, storage_options: Mapping[str, Any]
    ) -> DvFileSystem:
        """Return the filesystem; `glob` of this class wants paths of it, not URLs."""
        plain = {
            name: str(value) if isinstance(value, UrlPart) else value
            for name, value in storage_options.items()
        }
        return DvFileSystem(**plain)
