"""Threads that decode a struct for the first time at the same moment: msgspec by itself crashes."""

from __future__ import annotations

import ast
import subprocess
import sys

import msgspec

from dvtool.system.decoders import json_decoder, msgpack_decoder
from tests.site.blocks import PROJECT

RACE = '''
import sys, threading
import msgspec
from dvtool.system.decoders import json_decoder

sys.setswitchinterval(1e-6)
DEFINITION = """
class Inner(msgspec.Struct):
    number: int
    text: "str | None" = None

class Outer(msgspec.Struct):
    inner: Inner
    others: "dict[str, Inner]" = {}
"""
for _ in range(int(sys.argv[1])):
    exec(DEFINITION)  # a struct that nobody has decoded yet
    begin = threading.Barrier(4)

    def decode(kind=Outer):
        begin.wait()
        json_decoder(kind).decode(b'{"inner": {"number": 1}, "others": {"a": {"number": 2}}}')

    threads = [threading.Thread(target=decode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
'''


class Example(msgspec.Struct):
    number: int


def test_decoders_are_made_once_and_decode() -> None:
    assert json_decoder(Example) is json_decoder(Example)
    assert json_decoder(Example).decode('{"number": 3}') == Example(3)
    assert msgpack_decoder(list[int]).decode(msgspec.msgpack.encode([1, 2])) == [1, 2]


def test_threads_make_a_decoder_one_after_the_other() -> None:
    done = subprocess.run(
        [sys.executable, "-c", RACE, "500"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.returncode}: {done.stderr}"


def test_nothing_else_makes_decoders_of_structs() -> None:
    makers = []
    for path in sorted((PROJECT / "dvtool").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                typed = node.args if node.func.attr == "Decoder" else node.keywords
                named = ast.unparse(node.func).startswith("msgspec.")
                if named and node.func.attr in ("Decoder", "decode", "convert") and typed:
                    makers.append(f"{path.relative_to(PROJECT)}:{node.lineno}")
    assert {place.partition(":")[0] for place in makers} == {"dvtool/system/decoders.py"}, makers
