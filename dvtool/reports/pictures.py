"""Pictures for a report: small copies of two versions, and where they differ."""

from __future__ import annotations

import base64
import io
import warnings
from dataclasses import dataclass
from typing import IO, Any

from dvtool.errors import size_text
from dvtool.system.extras import import_extra

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff")
_DECODED_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")
FILE_BYTES_MAX = 64 << 20
PIXELS_MAX = 40_000_000
"""A picture with more is not decoded: the few bytes of a file may claim any size."""
SIDE_PIXELS_MAX = 320
_QUALITY = 72
_PIXEL_CHANGED_MIN = 8
"""By so many levels of 255 a pixel differs visibly; compression alone changes it by less."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A small copy of a picture, as a data URI, and the size of the original in pixels."""

    uri: str
    width: int
    height: int
    small: Any
    """The small copy itself, an image of Pillow."""


@dataclass(frozen=True, slots=True)
class PictureDifference:
    """Where two pictures of one size differ, and in which share of the small copy's pixels."""

    uri: str
    share: float


def read_picture(file: IO[bytes], size: int) -> Picture:
    """Return a small copy of a picture; ValueError, with the reason, if it cannot be shown."""
    image_module = import_extra("PIL.Image", extra="report", user="pictures")
    if size > FILE_BYTES_MAX:
        raise ValueError(f"a file of {size_text(size)} is not decoded")
    data = io.BytesIO(file.read(FILE_BYTES_MAX))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with image_module.open(data, formats=_DECODED_FORMATS) as image:
                width, height = image.size
                if width * height > PIXELS_MAX:
                    raise ValueError(f"{width:,} × {height:,} pixels are not decoded")
                image.draft("RGB", (2 * SIDE_PIXELS_MAX, 2 * SIDE_PIXELS_MAX))
                small = _on_white(image_module, image)
    except (image_module.DecompressionBombError, image_module.DecompressionBombWarning) as error:
        raise ValueError(f"it claims far more than {PIXELS_MAX:,} pixels: not decoded") from error
    except image_module.UnidentifiedImageError as error:
        formats = ", ".join(_DECODED_FORMATS)
        raise ValueError(f"it cannot be decoded: it is none of {formats}") from error
    except (OSError, SyntaxError, Warning, MemoryError, EOFError, OverflowError) as error:
        raise ValueError(f"it cannot be decoded: {error}") from error
    except (IndexError, KeyError, TypeError, AttributeError) as error:  # of damaged headers
        raise ValueError("it cannot be decoded") from error
    return Picture(_data_uri(small), width, height, small)


def picture_difference(old: Picture, new: Picture) -> PictureDifference | None:
    """Return where two pictures differ; None if they have other sizes.

    The colours are the differences of the channels, three times as strong.
    """
    if (old.width, old.height) != (new.width, new.height) or old.small.size != new.small.size:
        return None
    from PIL import ImageChops

    difference = ImageChops.difference(old.small, new.small)
    changed = difference.convert("L").histogram()[_PIXEL_CHANGED_MIN:]
    pixels = difference.width * difference.height
    strong = difference.point(lambda level: min(255, 3 * level))
    return PictureDifference(_data_uri(strong), sum(changed) / pixels)


def _on_white(image_module: Any, image: Any) -> Any:
    """Return a small copy; what is transparent is white."""
    if image.mode in ("I", "I;16", "I;16B", "F"):  # depth, not colour: the whole range is shown
        image = image.convert("F")
        low, high = image.getextrema()
        image = image.point(
            lambda level: level * (255 / ((high - low) or 1)) - low * (255 / ((high - low) or 1))
        )
    image.thumbnail((SIDE_PIXELS_MAX, SIDE_PIXELS_MAX))
    if image.mode in ("RGBA", "LA", "PA", "P"):
        shown = image.convert("RGBA")
        white = image_module.new("RGBA", shown.size, "white")
        return image_module.alpha_composite(white, shown).convert("RGB")
    return image.convert("RGB")


def _data_uri(image: Any) -> str:
    data = io.BytesIO()
    image.save(data, "WEBP", quality=_QUALITY)
    return "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode()
