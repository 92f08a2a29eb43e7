"""Files of each kind that a report shows, and hostile ones: `scripts/look` shows them too."""

from __future__ import annotations

import io
import json
import struct
import wave
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy
from PIL import Image

_SAFETENSORS_NAMES = {"float32": "F32", "int32": "I32"}


def picture(color: str, *, spot: str | None = None, size: tuple[int, int] = (64, 48)) -> bytes:
    """Return a PNG of one colour, a quarter of it in another."""
    image = Image.new("RGB", size, color)
    if spot is not None:
        image.paste(spot, (0, 0, size[0] // 2, size[1] // 2))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def sound(levels: Sequence[int]) -> bytes:
    """Return a WAV file of 8,000 samples of 16 bits a second."""
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setparams((1, 2, 8_000, 0, "NONE", ""))
        written.writeframes(struct.pack(f"<{len(levels)}h", *levels))
    return file.getvalue()


def npy(array: Any) -> bytes:
    """Return an array as numpy saves it."""
    file = io.BytesIO()
    numpy.save(file, array)
    return file.getvalue()


def hdf5(arrays: Mapping[str, Any]) -> bytes:
    """Return an HDF5 file of arrays, and a link to another file."""
    file = io.BytesIO()
    with h5py.File(file, "w") as written:
        for name, array in arrays.items():
            written[name] = array
        written["elsewhere"] = h5py.ExternalLink("/etc/passwd", "/x")
    return file.getvalue()


def safetensors(arrays: Mapping[str, Any]) -> bytes:
    """Return a file of tensors, by the description of its format."""
    header, body = {}, b""
    for name, array in arrays.items():
        data = array.tobytes()
        header[name] = {
            "dtype": _SAFETENSORS_NAMES[str(array.dtype)],
            "shape": list(array.shape),
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    encoded = json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded + body


# --- annotations ----------------------------------------------------------------------------


def coco(version: int) -> dict[str, Any]:
    """Return an export in COCO's form.

    In version 1 all numbers are others, a box moved, an image came, and an annotation went.
    """
    names = ["cats/a.jpg", "cats/b.jpg", "dogs/c.jpg", *(["dogs/d.jpg"] if version else [])]
    boxes = [(0, [1, 2, 30, 40]), (0, [50, 60, 7, 8]), (1, [5, 5, 20, 20]), (2, [0, 0, 9, 9])]
    if version:
        boxes = [(0, [1, 2, 33, 40]), (0, [50, 60, 7, 8]), (2, [0, 0, 9, 9]), (3, [4, 4, 4, 4])]
    first = 100 * version
    return {
        "info": {"description": f"export {version}"},
        "images": [
            {"id": first + at, "file_name": name, "width": 640, "height": 480}
            for at, name in enumerate(names)
        ],
        "annotations": [
            {
                "id": first + at,
                "image_id": first + image,
                "category_id": first + image // 2,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
            }
            for at, (image, box) in enumerate(boxes)
        ],
        "categories": [
            {"id": first, "name": "cat", "supercategory": "animal"},
            {"id": first + 1, "name": "dog", "supercategory": "animal"},
        ],
    }


def label_studio(version: int) -> list[dict[str, Any]]:
    """Return an export of Label Studio.

    In version 1 all numbers and times are others, a choice changed, and a task came.
    """
    choices = ["cat", "dog", "cat", *(["bird"] if version else [])]
    if version:
        choices[1] = "wolf"
    return [
        {
            "id": 1_000 * version + at,
            "data": {"image": f"s3://lab-data/{at}.jpg"},
            "updated_at": f"2026-11-0{version + 1}T10:00:00Z",
            "total_annotations": 1,
            "annotations": [
                {
                    "id": 2_000 * version + at,
                    "completed_by": 3,
                    "lead_time": 4.5 + version,
                    "created_at": f"2026-11-0{version + 1}T09:00:00Z",
                    "result": [
                        {
                            "id": f"r{version}{at}",
                            "type": "choices",
                            "from_name": "kind",
                            "to_name": "image",
                            "value": {"choices": [choice]},
                        }
                    ],
                }
            ],
        }
        for at, choice in enumerate(choices)
    ]


# --- hostile files --------------------------------------------------------------------------

EVIL = "<img src=x onerror=alert(1)>"


def _png_of_size(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
    return b"\x89PNG\r\n\x1a\n" + head + data + chunk(b"IEND", b"")


HOSTILE: dict[str, tuple[bytes, str]] = {
    "markup.csv": (f'id,"{EVIL}"\n1,"{EVIL}"\n2,=cmd()\n'.encode(), EVIL),
    "drawing.svg": (b"<svg onload='alert(1)'><script>alert(2)</script></svg>", "<svg onload="),
    "page.html": (b"</pre><script src=http://evil.example/x.js></script>", "</pre><script"),
    "bomb.png": (_png_of_size(60_000, 60_000), "not decoded"),
    "large.png": (_png_of_size(9_000, 9_000), "9,000 × 9,000"),
    "broken.jpg": (b"\xff\xd8\xff\xe0 no such thing", "cannot be decoded"),
    "named.png.jpg": (b"<svg onload=alert(1)>", "cannot be decoded"),
    "deep.json": (b'{"images":' + b"[" * 50_000 + b"]" * 50_000, ""),
    "deep.jsonl": (b"[" * 50_000 + b"]" * 50_000, "nested too deeply"),
    "pickle.npy": (b"\x93NUMPY\x01\x00\x10\x00{'descr':'O'}   \n", "cannot be read"),
    "claims.npy": (npy(numpy.arange(12.0))[:-8], "claims more than the file has"),
    "claims.safetensors": (b"\xff" * 8 + b"{}", "too large"),
    "claims.wav": (sound([1])[:30], "cannot be read"),
    "broken.h5": (b"\x89HDF\r\n\x1a\n" + bytes(90), "cannot be read"),
    "ticks.md": (b"```\n# @everyone ![x](http://evil.example/x.png)\n", "@everyone"),
}
"""Name -> content, and a text that a report shows of it."""


def hostile_files() -> dict[str, bytes]:
    """Return HOSTILE, and files whose names are hostile."""
    names = {f'"><script>alert(1)<_script>{EVIL}.txt': b"a"}
    names |= {"`|![x](http:evil).txt": b"b", "\x1b[31m\u202e.txt": b"c"}
    return {name: data for name, (data, _) in HOSTILE.items()} | names
