"""What a walk finds, put together."""

from __future__ import annotations

import os
from pathlib import Path

from dvtool.workspace.walk import Folder, walk


def walked(root: Path, path: str = "", **options: bool) -> dict[str, Folder]:
    return {folder.path: folder for folder in walk(str(root), path, **options)}


def faults(root: Path, path: str = "", **options: bool) -> dict[str, str]:
    return {path: why for folder in walk(str(root), path, **options) for path, why in folder.faults}


def files(root: Path, path: str = "", **options: bool) -> set[str]:
    return {
        os.path.join(folder.path, name)
        for folder in walk(str(root), path, **options)
        for name in folder.files
    }
