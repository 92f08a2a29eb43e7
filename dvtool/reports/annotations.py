"""JSON files as tables: COCO's exports, those of Label Studio, and arrays of objects.

The numbers of exports are given anew by each, so images are known by their file, annotations by
the image and their own content, and categories by name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import IO, Any

import msgspec

from dvtool.errors import size_text
from dvtool.reports.row_files import RowCells, RowTable, counted, objects_table
from dvtool.system.decoders import json_decoder

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
    """Return the tables of an export, or of an array of objects; none if the JSON is another.

    ValueError where the file is no JSON, or too large.
    """
    file.seek(0, os.SEEK_END)
    if file.tell() > JSON_BYTES_MAX:
        raise ValueError(f"it has {size_text(file.tell())}; at most 1 GiB of JSON is read")
    file.seek(0)
    data = file.read()
    kinds: tuple[tuple[Any, Callable[[Any], list[RowTable]]], ...] = (
        (_Coco, _coco_tables),
        (list[_Task], _label_studio_tables),
        (list[msgspec.Raw], _array_tables),
    )
    for kind, tables in kinds:
        try:
            return tables(json_decoder(kind).decode(data))
        except msgspec.ValidationError:
            continue
        except (msgspec.DecodeError, RecursionError) as error:
            nested = isinstance(error, RecursionError)
            raise ValueError("it is nested too deeply" if nested else str(error)) from error
    return []


def _array_tables(rows: list[msgspec.Raw]) -> list[RowTable]:
    """Return the table of an array of objects, as `--json-min` of Label Studio and pandas write."""
    if not rows or any(bytes(memoryview(row)[:1]) != b"{" for row in rows):
        return []
    decode = json_decoder(dict[str, Any]).decode
    return [objects_table(lambda: map(decode, rows))]


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
    decode_image = json_decoder(_Image).decode
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


# --- Label Studio ---------------------------------------------------------------------------

_OWN_NUMBERS = (
    *("id", "unique_id", "task", "project", "import_id", "prediction", "parent_prediction"),
    *("parent_annotation", "created_at", "updated_at", "draft_created_at", "lead_time"),
)
_REGION_NUMBERS = ("id", "from_id", "to_id", "parentID")


def _label_studio_tables(tasks: list[_Task]) -> list[RowTable]:
    def images() -> Iterator[dict[str, Any]]:
        for task in tasks:
            yield {"data": _known_as(task)}

    def annotations() -> Iterator[dict[str, Any]]:
        for task in tasks:
            for value in task.annotations:
                kept = {key: inner for key, inner in value.items() if key not in _OWN_NUMBERS}
                yield {"data": _known_as(task), **kept, "result": _regions(value)}

    def regions() -> Iterator[dict[str, Any]]:
        for task in tasks:
            for value in task.annotations:
                for region in _regions(value):
                    region.pop("id", None)
                    yield {"data": _known_as(task), **region}

    return [
        _json_table("tasks", "data", images),
        _json_table("annotations", "data", annotations),
        _json_table("regions", "data", regions),
    ]


def _known_as(task: _Task) -> Any:
    """Return what a task is known by: its data, and of data of one text this text."""
    values = list(task.data.values())
    return values[0] if len(values) == 1 and isinstance(values[0], str) else task.data


def _regions(annotation: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the regions of an annotation, numbered by their order instead of at random."""
    numbers: dict[str, str] = {}
    regions = []
    result = annotation.get("result")
    for region in result if isinstance(result, list) else []:
        numbered = dict(region) if isinstance(region, dict) else {"value": region}
        for name in _REGION_NUMBERS:
            if isinstance(numbered.get(name), str):
                own = numbered[name]
                numbered[name] = numbers.setdefault(own, f"region {len(numbers) + 1}")
        regions.append(numbered)
    return regions
