"""Makes the pages of `scripts/look`: changes of real data, as a reviewer sees them.

Each change is two commits of a repository of its own; `dv diff HEAD~1 HEAD --html` makes the page.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy
import pandas
import vega_datasets
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from tests.site.browser import CHROMIUM, browser, sheets, shots
from tests.unit.reports import files

PROJECT = Path(__file__).parent.parent
IMAGES = 20_000
PICTURES = (".png", ".jpg", ".tif", ".gif")


# --- vega-datasets --------------------------------------------------------------------------


def vega(data: Path, version: int) -> None:
    """Write the tables of vega-datasets; later numbers, rows and a column are others."""
    source = Path(vega_datasets.__file__).parent / "_data"
    for path in sorted(source.iterdir()):
        if path.suffix in (".csv", ".json"):
            (data / path.name).write_bytes(path.read_bytes())
    if not version:
        return
    weather = pandas.read_csv(data / "seattle-weather.csv")
    weather.loc[weather["weather"] == "drizzle", "weather"] = "rain"
    weather["wind"] = (weather["wind"] * 1.609).round(1)
    weather.drop(index=weather.index[100:130]).to_csv(data / "seattle-weather.csv", index=False)
    stocks = pandas.read_csv(data / "stocks.csv")
    stocks["currency"] = "USD"
    stocks[stocks["symbol"] != "IBM"].to_csv(data / "stocks.csv", index=False)
    airports = pandas.read_csv(data / "airports.csv")
    airports.loc[airports["state"] == "AK", "latitude"] += 0.01
    airports.sort_values("name").to_csv(data / "airports.csv", index=False)
    cars = json.loads((data / "cars.json").read_text())
    cars[3]["Horsepower"] = 151
    (data / "cars.json").write_text(json.dumps(cars, indent=1))
    (data / "iris.json").unlink()


# --- scikit-image ---------------------------------------------------------------------------


def scikit_image(data: Path, version: int) -> None:
    """Write the images of scikit-image's wheel; in the second version several are edited."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--dest", folder, "scikit-image"]
        subprocess.run(command, check=True)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            for name in wheel.namelist():
                if name.startswith("skimage/data/") and name.endswith(
                    (".png", ".jpg", ".tif", ".gif")
                ):
                    (data / Path(name).name).write_bytes(wheel.read(name))
    if not version:
        return

    def edit(name: str, change: Callable[[Image.Image], Image.Image]) -> None:
        with Image.open(data / name) as image:
            image.load()
            change(image).save(data / name)

    edit("astronaut.png", lambda image: ImageEnhance.Brightness(image).enhance(1.2))
    edit("camera.png", lambda image: image.rotate(1))
    edit("coffee.png", ImageOps.mirror)
    edit("chelsea.png", lambda image: image.crop((40, 20, 360, 280)))
    edit("horse.png", lambda image: image.transpose(Image.Transpose.ROTATE_90))
    edit("rocket.jpg", lambda image: image)  # only compressed anew
    edit("logo.png", lambda image: ImageOps.expand(image, 0))
    edit("coins.png", lambda image: image.point(lambda level: 255 - level))
    for name in ("page.png", "hubble_deep_field.jpg"):
        edit(name, _with_box)
    (data / "brick.png").unlink()
    (data / "moon.png").rename(data / "luna.png")
    Image.linear_gradient("L").save(data / "gradient.png")


def _with_box(image: Image.Image) -> Image.Image:
    shown = image.convert("RGB")
    size = (shown.width // 3, shown.height // 3, shown.width // 2, shown.height // 2)
    ImageDraw.Draw(shown).rectangle(size, outline=(255, 60, 40), width=4)
    return shown


# --- many images ----------------------------------------------------------------------------


def many_images(data: Path, version: int) -> None:
    """Write small images into folders; each is another in the second version."""
    for at in range(IMAGES):
        folder = data / f"class-{at % 40:02}"
        folder.mkdir(exist_ok=True)
        image = Image.new("RGB", (160, 120), (at * 37 % 256, at * 91 % 256, at * 13 % 256))
        draw = ImageDraw.Draw(image)
        draw.ellipse((30, 20, 110, 100), fill=(at * 7 % 256, 180, 90))
        draw.text((4, 104), str(at), fill="white")
        if version:
            draw.rectangle((80, 50, 140, 90), fill=(240, 80, 40))
        image.save(folder / f"{at:05}.png", compress_level=1)


# --- other kinds ----------------------------------------------------------------------------


def hostile(data: Path, version: int) -> None:
    """Write the files of which the tests show that nothing of them comes to life."""
    (data / "kept.txt").write_text("kept")
    if version:
        for name, content in files.hostile_files().items():
            (data / name).write_bytes(content)


def kinds(data: Path, version: int) -> None:
    """Write audio, arrays, texts and annotations."""
    source = random.Random(1)
    numbers = numpy.random.default_rng(1)
    tone = [
        math.sin(at / (9 + 3 * version)) * math.exp(-(at % 4_000) / (900 + 900 * version))
        for at in range(16_000)
    ]
    (data / "bell.wav").write_bytes(files.sound([round(20_000 * level) for level in tone]))
    weights = {
        f"layers.{at}.{name}": numbers.normal(0, 1 / (at + 1), shape).astype("float32")
        for at in range(4)
        for name, shape in (("weight", (64, 32)), ("bias", (64,)))
    }
    if version:
        weights["layers.3.weight"] *= 1.05
        weights["head.weight"] = numbers.normal(0, 1, (10, 64)).astype("float32")
        del weights["layers.0.bias"]
    (data / "model.safetensors").write_bytes(files.safetensors(weights))
    (data / "features.npy").write_bytes(files.npy(numbers.normal(version, 1, (1_200, 512))))
    (data / "runs.h5").write_bytes(files.hdf5({"day/1": weights["layers.3.weight"]}))
    lines = [f"{word} {source.randrange(100)}" for word in ("rate", "size", "seed") * 20]
    if version:
        lines[7], lines[40:42] = "size 1000", []
    (data / "settings.txt").write_text("\n".join(lines) + "\n")
    (data / "plan.svg").write_text(f"<svg><circle r='{4 + version}'/></svg>\n")
    (data / "labels.json").write_text(json.dumps(files.coco(version)))
    (data / "tasks.json").write_text(json.dumps(files.label_studio(version)))


# --- pages ----------------------------------------------------------------------------------

CHANGES: dict[str, Callable[[Path, int], None]] = {
    "vega": vega,
    "scikit-image": scikit_image,
    "many-images": many_images,
    "hostile": hostile,
    "kinds": kinds,
}


def make_page(name: str, out: Path) -> str:
    """Write the page and the comment of a change; return a row of figures about the page."""
    work = Path(tempfile.mkdtemp(prefix="dv-look-"))
    try:
        _run(work, "git", "init", "--quiet")
        _run(work, "dv", "init", "--quiet")
        data = work / "data"
        for version in (0, 1):
            shutil.rmtree(data, ignore_errors=True)
            data.mkdir()
            CHANGES[name](data, version)
            _run(work, "dv", "add", "--quiet", "data")
            _run(work, "git", "add", "--all")
            _run(work, "git", "commit", "--quiet", "--message", f"Version {version}")
        page = out / f"{name}.html"
        command = ["dv", "diff", "HEAD~1", "HEAD", "--html", str(page)]
        seconds, cpu_s, peak_mib = _measured(work, command)
        comment = _run(work, "dv", "diff", "HEAD~1", "HEAD", "--markdown")
        (out / f"{name}.md").write_text(comment, encoding="utf-8")
        files_count = _run(work, "dv", "diff", "HEAD~1", "HEAD", "--name-only").count("\n")
    finally:
        shutil.rmtree(work)
    size_mb = page.stat().st_size / 1e6
    figures = f"{seconds:.1f} s | {cpu_s:.1f} s | {size_mb:.2f} MB | {peak_mib:.0f} MiB"
    return f"| {name} | {files_count:,} | {figures} |"


def _run(work: Path, *command: str) -> str:
    people = {"GIT_AUTHOR_NAME": "Look", "GIT_AUTHOR_EMAIL": "look@example.org"}
    people |= {name.replace("AUTHOR", "COMMITTER"): value for name, value in people.items()}
    done = subprocess.run(
        command, cwd=work, env={**os.environ, **people}, check=True, stdout=subprocess.PIPE
    )
    return done.stdout.decode()


_MEASURE = """
import json, resource, subprocess, sys, time
started = time.monotonic()
code = subprocess.call(sys.argv[1:])
seconds = time.monotonic() - started
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([code, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss]))
"""


def _measured(work: Path, command: list[str]) -> tuple[float, float, float]:
    """Run a command; return its seconds, its seconds of CPU, and its peak memory in MiB.

    A small process starts it: until a child is another program, the memory of its parent counts.
    """
    answer = _run(work, sys.executable, "-I", "-S", "-c", _MEASURE, *command)
    code, seconds, cpu_s, peak = json.loads(answer.splitlines()[-1])
    if code:
        sys.exit(f"{' '.join(command)} ended with {code}")
    unit = 1 if sys.platform == "darwin" else 1024
    return seconds, cpu_s, peak * unit / (1 << 20)


def take_pictures(names: list[str], out: Path) -> None:
    """Take pictures of pages, wide and narrow, light and dark; print what is wrong with them."""
    if CHROMIUM is None:
        print("no pictures: there is no Chromium (on Debian: apt install chromium)")
        return
    with browser() as chromium:
        for name in names:
            taken = shots(chromium, out / f"{name}.html", pictures=True)
            for number, sheet in enumerate(sheets(taken), 1):
                sheet.save(out / f"{name}-{number}.png")
            for shot in taken:
                assert shot.image is not None
                shot.image.save(out / f"{name}-{shot.width_px}-{shot.scheme}.png")
                for fault in shot.faults:
                    print(f"{name} {shot.width_px} {shot.scheme}: {fault}")


def write_index(out: Path) -> None:
    """Write a page of links to all that is in the folder, the plots of the docs too."""
    for plot in (PROJECT / "docs").glob("*.svg"):
        shutil.copy(plot, out)
    names = sorted(path.name for path in out.iterdir() if path.name != "index.html")
    links = "".join(f'<li><a href="{name}">{name}</a></li>' for name in names)
    start = '<!doctype html><meta charset="utf-8"><title>To look at</title><h1>To look at</h1>'
    (out / "index.html").write_text(f"{start}<ul>{links}</ul>", encoding="utf-8")


def main() -> None:
    """Make the pages that are named, or all: FOLDER [CHANGE]…"""
    out, names = Path(sys.argv[1]).resolve(), sys.argv[2:] or list(CHANGES)
    unknown = [name for name in names if name not in CHANGES]
    if unknown:
        sys.exit(f"error: no change is called {unknown[0]}; there are: {' '.join(CHANGES)}")
    out.mkdir(parents=True, exist_ok=True)
    print("| change | files | time | CPU | page | peak memory |\n|---|--:|--:|--:|--:|--:|")
    for name in names:
        print(make_page(name, out), flush=True)
    take_pictures(names, out)
    write_index(out)
    print(f"open {out}/index.html")


if __name__ == "__main__":
    main()
