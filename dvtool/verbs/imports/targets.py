"""Where an import goes: a target that can be made, or one that the same import made before."""

from __future__ import annotations

from dvtool.errors import UsageError, listing, printable
from dvtool.format.manifest import decode
from dvtool.format.paths import SUFFIX
from dvtool.project.arguments import Arguments
from dvtool.project.parts import Project, refuse_place
from dvtool.verbs.imports.bring import TargetThere
from dvtool.workspace.rules import IGNORE_FILE, Ignore


def new_target(arguments: Arguments, name: str) -> str:
    """Return the target that a name as typed means; UsageError if it cannot be one."""
    project = arguments.project
    target = arguments.relative(name)
    refuse_place(target)
    project.refuse_left_out([target])
    targets = project.targets()
    owner = next((other for other in targets if target.startswith(other + "/")), None)
    if owner is not None:
        raise UsageError(
            f"{printable(target)} lies in the target {printable(owner)}",
            hint="import it beside that",
        )
    inside = [other for other in targets if other.startswith(target + "/")]
    if inside:
        raise UsageError(f"{printable(target)} holds targets of its own:\n{listing(inside)}")
    if Ignore(project.root, target).excluded:
        raise UsageError(
            f"{IGNORE_FILE} says to leave out {printable(target)}",
            hint=f"take that line out of {IGNORE_FILE}, then repeat the command",
        )
    return target


def target_there(project: Project, target: str) -> TargetThere:
    """Return what is at a target's place; UsageError unless nothing is, or an imported target."""
    text = project.manifest_text(target)
    if text is not None:
        there = TargetThere(target, decode(text, target + SUFFIX), text)
        if there.manifest is None or there.manifest.source is None:
            raise UsageError(
                f"{printable(target)} is a target that was not imported",
                hint="import into another place",
            )
        return there
    if project.workspace.stat(target) is not None:
        raise UsageError(
            f"{printable(target)} is there already, and is no target",
            hint="import into another place, or move it away",
        )
    return TargetThere(target, None, None)
