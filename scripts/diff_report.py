"""Makes a table in Markdown of what `dv diff --json` says on standard input."""

from __future__ import annotations

import json
import sys
from typing import Any

CHANGES = ("added", "modified", "removed", "renamed")
NAMED_MAX = 20
UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size_text(size: float) -> str:
    """Return bytes with their sign, as `dv diff` has them: ``+4.0 KiB``."""
    sign, size = ("+" if size > 0 else "-" if size < 0 else "±"), abs(size)
    unit = 0
    while size >= 1024 and unit < len(UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{sign}{size:.1f} {UNITS[unit]}" if unit else f"{sign}{size:.0f} B"


def code(name: str) -> str:
    """Return a name that others chose as text of which Markdown makes nothing else."""
    shown = "".join(char if char.isprintable() else "?" for char in name)
    for special, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "&#124;")):
        shown = shown.replace(special, entity)
    return f"<code>{shown}</code>"


def report(found: dict[str, Any]) -> str:
    """Return the whole report."""
    lines = ["### Data that changed", ""]
    if not found["targets"]:
        return "\n".join([*lines, "No data changed.", ""])
    lines += [f"| target | {' | '.join(CHANGES)} | bytes |", "|---|" + "---:|" * 5]
    for target in found["targets"]:
        totals = target["totals"]
        counts = " | ".join(f"{totals[change]['count']:,}" for change in CHANGES)
        growth = sum(totals[change]["bytes"] for change in CHANGES)
        before = target.get("renamed_from")
        name = code(target["target"]) + (f" (was {code(before)})" if before else "")
        lines.append(f"| {name} | {counts} | {size_text(growth)} |")
    names = [
        f"- {change['change']}: {code(target['target'])} {code(change['path'])}"
        for target in found["targets"]
        for change in target["changes"]
    ]
    lines += ["", "<details><summary>Files</summary>", "", *names[:NAMED_MAX]]
    if len(names) > NAMED_MAX:
        lines.append(f"- … and {len(names) - NAMED_MAX:,} more")
    return "\n".join([*lines, "", "</details>", ""])


if __name__ == "__main__":
    print(report(json.load(sys.stdin)))
