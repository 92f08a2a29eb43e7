"""Exports of annotation tools as tables: COCO, and the JSON of Label Studio.

Their numbers are given anew by each export, so images are known by their file, annotations by the
image and their own content, and categories by name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import IO, Any

import msgspec

from dvtool.errors import size_text
from dvtool.reports.row_files import RowCells, RowTable, counted

JSON_BYTES_MAX = 1 << 30
"""An export is in memory as a whole; a larger one is not read."""
ANNOTATION_SUFFIX = ".json"


class _Coco(msgspec.Struct):
    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]
    categories: list[dict[str, Any]] = []


class _Image(msgspec.Struct):
    id: Any
    file_name: str


class _Task(msgspec.Struct):
    data: dict[str, Any]
    annotations: list[dict[str, Any]]
    id: Any = None


def annotation_tables(file: IO[bytes]) -> list[RowTable]:
    """Return the tables of an export, none if the JSON is of another kind.

    ValueError where the file is no JSON, or too large.
    """
    file.seek(0, os.SEEK_END)
    if file.tell() > JSON_BYTES_MAX:
        raise ValueError(f"it has {size_text(file.tell())}; at most 1 GiB of JSON is read")
    file.seek(0)
    data = file.read()
    kinds: tuple[Any, ...] = (_Coco, list[_Task])
    for kind in kinds:
        try:
            export = msgspec.json.decode(data, type=kind)
            return _coco_tables(export) if kind is _Coco else _label_studio_tables(export)
        except msgspec.ValidationError:
            continue
        except (msgspec.DecodeError, RecursionError) as error:
            nested = isinstance(error, RecursionError)
            raise ValueError("it is nested too deeply" if nested else str(error)) from error
    return []


def _json_table(name: str, key: str, objects: Callable[[], Iterator[dict[str, Any]]]) -> RowTable:
    columns = {key: "string"}
    for value in objects():
        for column in value:
            columns.setdefault(column, "any")

    def rows() -> Iterator[RowCells]:
        for value in objects():
            yield [value.get(column) for column in columns]

    return RowTable(name, columns, rows, counted(rows), key=(key,))


def _coco_tables(coco: _Coco) -> list[RowTable]:
    decode_image = msgspec.json.Decoder(_Image).decode
    files = {repr(image.id): image.file_name for image in map(decode_image, coco.images)}
    names = {repr(category.get("id")): str(category.get("name")) for category in coco.categories}

    def images() -> Iterator[dict[str, Any]]:
        for raw in coco.images:
            value = msgspec.json.decode(raw)
            value.pop("id", None)
            yield value

    def annotations() -> Iterator[dict[str, Any]]:
        for raw in coco.annotations:
            value = msgspec.json.decode(raw)
            value.pop("id", None)
            image, category = value.pop("image_id", None), value.pop("category_id", None)
            value["image"] = files.get(repr(image), f"image {image}, which is not listed")
            value["category"] = names.get(repr(category), f"category {category}")
            yield value

    def categories() -> Iterator[dict[str, Any]]:
        for value in coco.categories:
            yield {key: inner for key, inner in value.items() if key != "id"}

    return [
        _json_table("images", "file_name", images),
        _json_table("annotations", "image", annotations),
        _json_table("categories", "name", categories),
    ]


_OWN_NUMBERS = ("id", "unique_id", "created_at", "updated_at", "task", "project", "lead_time")


def _label_studio_tables(tasks: list[_Task]) -> list[RowTable]:
    def images() -> Iterator[dict[str, Any]]:
        for task in tasks:
            yield {"data": task.data}

    def annotations() -> Iterator[dict[str, Any]]:
        for task in tasks:
            for value in task.annotations:
                kept = {key: inner for key, inner in value.items() if key not in _OWN_NUMBERS}
                yield {"data": task.data, **kept}

    return [
        _json_table("tasks", "data", images),
        _json_table("annotations", "data", annotations),
    ]
