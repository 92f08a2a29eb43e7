"""What the JSON of each command holds, read from the classes that it is made from.

`python -m tests.json_reference` writes docs/reference/json.md, docs/reference/json.schema.json and
the keys that the help texts show.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import itertools
import json
import re
import sys
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import dvtool
from dvtool.cli import documents
from dvtool.cli.failures import ErrorDocument
from dvtool.cli.output import SCHEMA, json_keys

PROJECT = Path(__file__).parent.parent
REFERENCE = PROJECT / "docs" / "reference" / "json.md"
JSON_SCHEMA = PROJECT / "docs" / "reference" / "json.schema.json"
HELP = PROJECT / "dvtool" / "cli" / "json_keys.py"
PLAIN = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
FAILED = "a command that fails"
SCHEMA_MEANING = "The version of the JSON, the same for all commands."
INTRODUCTION = f"""# The JSON of the commands

Made from the code by `python -m tests.json_reference`; [json.schema.json](json.schema.json) says
the same as JSON Schema.

With `--json` a command prints one JSON document on standard output, and nothing else there;
warnings and errors in words go to standard error. A command that fails before it has an answer
prints [its error](#a-command-that-fails) as JSON, and ends with the same exit code as without
`--json`. A command that was asked a question, such as `dv status --exit-code`, prints its answer
and ends with 1 for no.

Every document has the key `schema`, which is {SCHEMA}. It becomes another number once a key goes
or means something else; new keys may come at any time. Paths are text; a byte in one that is not
UTF-8 is a lone surrogate, as in Python. Names that end in `_bytes` are bytes, names that end in
`_s` are seconds; hashes are in hex.

From Python, the same objects are what the methods of `dvtool.Repo` return: see
[library.md](../library.md).
"""


class Key(typing.NamedTuple):
    """One key of an object in JSON."""

    name: str
    hint: Any
    meaning: str
    optional: bool


def document(name: str) -> type:
    """Return the class of a document, by its name in `documents.ANSWERS`."""
    found: type = getattr(documents, name, None) or getattr(dvtool, name)
    return found


def answers() -> Iterator[tuple[str, type]]:
    """Yield each command line that prints JSON, as `push --plan`, and the class of its document."""
    for command, variants in documents.ANSWERS.items():
        for option, name in variants.items():
            yield f"{command} {option}".strip(), document(name)


@functools.cache
def namespace(module: str) -> dict[str, Any]:
    """Return the names of a module, with those that it imports for type checkers alone."""
    found = sys.modules[module]
    names = dict(vars(found))
    for block in ast.parse(inspect.getsource(found)).body:
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING":
            for node in block.body:
                if isinstance(node, ast.ImportFrom) and node.module is not None:
                    home = importlib.import_module(node.module)
                    for alias in node.names:
                        with_name = getattr(home, alias.name, None)
                        names[alias.asname or alias.name] = with_name
    return names


@functools.cache
def keys(kind: type) -> tuple[Key, ...]:
    """Return the keys of an object in JSON, in their order."""
    hints: dict[str, Any] = {}
    meanings: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("dvtool"):
            here = namespace(base.__module__)
            for name, annotation in vars(base).get("__annotations__", {}).items():
                text = getattr(annotation, "__forward_arg__", annotation)
                hints[name] = eval(text, here) if isinstance(text, str) else text
            meanings |= attribute_docstrings(base)
            for name, value in vars(base).items():
                if isinstance(value, property):
                    hints[name] = typing.get_type_hints(value.fget, here)["return"]
                    meanings[name] = inspect.cleandoc(value.__doc__ or "")
    optional = getattr(getattr(kind, "__struct_config__", None), "omit_defaults", False)
    names = json_keys(kind)
    assert names is not None, kind
    return tuple(
        Key(
            name,
            hints[name],
            " ".join(meanings.get(name, "").split()),
            optional and _may_lack(hints[name]),
        )
        for name in names
    )


def _may_lack(hint: Any) -> bool:
    return type(None) in get_args(hint)


def attribute_docstrings(kind: type) -> dict[str, str]:
    """Return the texts that follow the fields of a class in its source."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for before, node in zip(tree.body, tree.body[1:], strict=False):
        text = node.value if isinstance(node, ast.Expr) else None
        if isinstance(before, ast.AnnAssign) and isinstance(text, ast.Constant):
            found[ast.unparse(before.target)] = str(text.value)
    return found


def shown(hint: Any) -> Any:
    """Return the class that stands for one in JSON."""
    value = getattr(hint, "json_value", None)
    if isinstance(value, property):
        return typing.get_type_hints(value.fget, namespace(hint.__module__))["return"]
    return hint


def inner(hint: Any) -> Iterator[type]:
    """Yield the classes of objects that a value may hold."""
    hint = shown(hint)
    if isinstance(hint, type) and json_keys(hint) is not None:
        yield hint
    for part in get_args(hint):
        if get_origin(hint) is not Literal:
            yield from inner(part)


def _is_list(hint: Any) -> bool:
    origin = get_origin(hint)
    return isinstance(origin, type) and issubclass(origin, (Sequence, Set))


# --- for people -----------------------------------------------------------------------------


def type_text(hint: Any) -> str:
    """Return a type in words, classes as links to their sections."""
    hint = shown(hint)
    if hint in PLAIN:
        return PLAIN[hint]
    if get_origin(hint) is Literal:
        return "string"
    if get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(map(type_text, get_args(hint)))
    if _is_list(hint):
        return f"list of {type_text(get_args(hint)[0])}"
    if isinstance(get_origin(hint), type) and issubclass(get_origin(hint), Mapping):
        return f"object of {type_text(get_args(hint)[1])}"
    assert json_keys(hint) is not None, f"{hint} has no form in JSON"
    return f"[{hint.__name__}](#{hint.__name__.lower()})"


def _table(kind: type, *, top: bool) -> Iterator[str]:
    yield "| key | type | meaning |"
    yield "|---|---|---|"
    if top:
        yield f"| `schema` | integer | {SCHEMA_MEANING} |"
    for key in keys(kind):
        lacking = ", or not there" if key.optional else ""
        text = type_text(key.hint).replace(" or null", "") if key.optional else type_text(key.hint)
        yield f"| `{key.name}` | {text}{lacking} | {key.meaning} |"


def _section(title: str, kind: type, *, top: bool) -> Iterator[str]:
    yield f"## {title}" if top else f"### {title}"
    yield ""
    yield " ".join(inspect.getdoc(kind).split())  # type: ignore[union-attr]
    yield ""
    yield from _table(kind, top=top)
    yield ""


def reference() -> str:
    """Return docs/reference/json.md."""
    lines = [INTRODUCTION]
    tops = [*answers(), (FAILED, ErrorDocument)]
    nested: dict[str, type] = {}
    for line, kind in tops:
        title = line if kind is ErrorDocument else f"dv {line}"
        lines.extend(
            _section(
                title[:1].upper() + title[1:] if kind is ErrorDocument else title, kind, top=True
            )
        )
        nested |= {one.__name__: one for one in _below(kind)}
    lines.append("## Objects in them\n")
    for _, kind in sorted(nested.items()):
        lines.extend(_section(kind.__name__, kind, top=False))
    return "\n".join(lines).rstrip() + "\n"


def _below(kind: type) -> Iterator[type]:
    for key in keys(kind):
        for one in inner(key.hint):
            yield one
            yield from _below(one)


# --- for programs ---------------------------------------------------------------------------


def type_schema(hint: Any) -> dict[str, Any]:
    """Return a type as JSON Schema."""
    hint = shown(hint)
    if hint in PLAIN:
        return {"type": PLAIN[hint]}
    if get_origin(hint) is Literal:
        return {"enum": list(get_args(hint))}
    if get_origin(hint) in (typing.Union, types.UnionType):
        return {"anyOf": list(map(type_schema, get_args(hint)))}
    if _is_list(hint):
        return {"type": "array", "items": type_schema(get_args(hint)[0])}
    if isinstance(get_origin(hint), type) and issubclass(get_origin(hint), Mapping):
        return {"type": "object", "additionalProperties": type_schema(get_args(hint)[1])}
    return {"$ref": f"#/$defs/{hint.__name__}"}


def object_schema(kind: type, *, top: bool) -> dict[str, Any]:
    """Return a class of results as JSON Schema; at the `top` of a document with its version."""
    properties = {
        key.name: type_schema(key.hint) | {"description": key.meaning} for key in keys(kind)
    }
    required = [key.name for key in keys(kind) if not key.optional]
    if top:
        properties = {"schema": {"const": SCHEMA, "description": SCHEMA_MEANING}, **properties}
        required = ["schema", *required]
    return {
        "type": "object",
        "description": " ".join((inspect.getdoc(kind) or "").split()),
        "properties": properties,
        "required": required,
    }


def json_schema() -> dict[str, Any]:
    """Return docs/reference/json.schema.json: `$defs` has each document as `dv push --plan`."""
    defs: dict[str, Any] = {}
    below: dict[str, type] = {}
    for line, kind in [*answers(), ("", ErrorDocument)]:
        name = f"dv {line}" if line else FAILED
        defs[name] = object_schema(kind, top=True)
        below |= {one.__name__: one for one in _below(kind)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What dv prints with --json",
        "anyOf": [{"$ref": f"#/$defs/{name.replace(' ', '%20')}"} for name in defs],
        "$defs": defs
        | {name: object_schema(one, top=False) for name, one in sorted(below.items())},
    }


CHECKED_SIZE_MAX_BYTES = 1 << 20


@functools.cache
def _validator(command: str | None) -> Any:
    import jsonschema

    schema = json_schema()
    for one in schema["$defs"].values():
        one["additionalProperties"] = False
    lines = [f"{command} {option}".strip() for option in documents.ANSWERS.get(command or "", ())]
    names = [*(f"dv {line}" for line in lines), FAILED]
    refs = [{"$ref": f"#/$defs/{name.replace(' ', '%20')}"} for name in names]
    return jsonschema.Draft202012Validator(schema | {"anyOf": refs})


def check(arguments: Sequence[str], output: bytes) -> None:
    """Assert that a run of dv with --json printed one document, one that its command may print."""
    words = list(itertools.takewhile(lambda word: word != "--", arguments))
    if "--json" not in words or not 0 < len(output) < CHECKED_SIZE_MAX_BYTES:
        return
    plain = [word for word in words if not word.startswith("-")]
    names = [" ".join(plain[at:end]) for at in range(len(plain)) for end in (at + 2, at + 1)]
    names += [f"{name} list" for name in plain]  # what a group does without a command
    command = next((name for name in names if name in documents.ANSWERS), None)
    _validator(command).validate(json.loads(output))


def json_schema_text() -> str:
    """Return the schema as it is on the disk."""
    return json.dumps(json_schema(), indent=1) + "\n"


# --- for help -------------------------------------------------------------------------------


def shape(kind: type, *, top: bool = True) -> str:
    """Return the keys of a document: ``{"schema", "clean", "targets": [{"target", …}]}``."""
    return _shape(kind, set(), top=top)


def _shape(kind: type, before: set[type], *, top: bool = False) -> str:
    if kind in before:
        return "{…}"
    before.add(kind)
    parts = ['"schema"'] if top else []
    for key in keys(kind):
        classes = list(inner(key.hint))
        if not classes:
            parts.append(f'"{key.name}"')
            continue
        text = _shape(classes[0], before)
        optional = get_args(key.hint) and not _is_list(key.hint)
        listed = f"[{text}]" if _is_list(key.hint) else f"null or {text}" if optional else text
        parts.append(f'"{key.name}": {listed}')
    return f"{{{', '.join(parts)}}}"


def help_texts() -> dict[str, list[str]]:
    """Return what the help of each command says of its JSON, by the command's name."""
    texts = {}
    for command, variants in documents.ANSWERS.items():
        shapes = {option: shape(document(name)) for option, name in variants.items()}
        lines = [f"With {o}: {text}" if o else text for o, text in shapes.items()]
        texts[command] = [*lines, "Each key is explained in docs/reference/json.md."]
    return texts


def help_module() -> str:
    """Return dvtool/cli/json_keys.py."""
    lines = [
        '"""The keys of the JSON that commands print, for their help.',
        "",
        "Made by `python -m tests.json_reference` from the classes of results: change those.",
        '"""',
        "",
        "JSON_KEYS = {",
    ]
    for command, texts in help_texts().items():
        lines.append(f'    "{command}": (')
        for text in texts:
            wrapped = textwrap.wrap(text, 84, drop_whitespace=False, break_long_words=False)
            lines.extend(f"        {_literal(part)}" for part in wrapped)
            lines[-1] += ","
        lines.append("    ),")
    return "\n".join([*lines, "}", ""])


def _literal(text: str) -> str:
    quote = "'" if '"' in text else '"'  # as ruff has it
    return quote + re.sub(rf"([{quote}\\])", r"\\\1", text) + quote


if __name__ == "__main__":
    REFERENCE.parent.mkdir(exist_ok=True)
    REFERENCE.write_text(reference(), encoding="utf-8")
    JSON_SCHEMA.write_text(json_schema_text(), encoding="utf-8")
    HELP.write_text(help_module(), encoding="utf-8")
