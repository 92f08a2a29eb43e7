from __future__ import annotations

import io
import json
import re

import pytest

from dvtool.cli.output import Screen, as_json, count_text, growth_text, shell_word
from dvtool.errors import size_text
from tests.cli.conftest import Work


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1,023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        ((1 << 20) - 1, "1.0 MiB"),
        (163_840_000, "156.2 MiB"),
        (5 << 30, "5.0 GiB"),
        (3 << 60, "3,072.0 PiB"),
    ],
)
def test_size_text(size: int, text: str) -> None:
    assert size_text(size) == text


def test_growth_and_count() -> None:
    assert growth_text(2048) == "+2.0 KiB"
    assert growth_text(-1) == "-1 B"
    assert growth_text(0) == "±0 B"
    assert count_text(1, "file") == "1 file"
    assert count_text(20_000, "entry") == "20,000 entries"


def test_shell_word() -> None:
    assert shell_word("data/a.txt") == "data/a.txt"
    assert shell_word("a b") == "'a b'"
    assert shell_word("it's") == "'it'\"'\"'s'"
    assert shell_word("a\nb'\x1b") == "$'a\\x0ab\\'\\x1b'"


def test_colour_only_on_a_terminal(data: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    data.write("data/images/new.txt")
    assert "\x1b[32m" in data.dv("status", terminal=True).out
    assert "\x1b" not in data.dv("status").out
    assert "\x1b[31;1merror:" in data.dv("status", "nope", code=2, terminal=True).err
    assert "\x1b" not in data.dv("status", "nope", code=2).err


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_no_colour_where_it_is_not_wanted(
    data: Work, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(variable, value)
    data.write("data/images/new.txt")
    for args in (("status",), ("diff",), ("log", "data/images"), ("add", "data/images")):
        ran = data.dv(*args, terminal=True)
        assert "\x1b[3" not in ran.out + ran.err
        assert "\x1b[2" not in ran.out + ran.err


def test_json_has_no_colour_and_no_control_characters(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    work.write("data/esc\x1b[31m\x9b\u202e\U000e0001 ü")
    work.dv("add", "data")
    out = work.dv("ls", "--json", terminal=True).out
    assert out.replace("\n", "").isprintable()
    assert "ü" in out
    assert json.loads(out)["entries"][0]["path"] == "data/esc\x1b[31m\x9b\u202e\U000e0001 ü"


def test_a_terminal_that_lacks_a_letter(work: Work) -> None:
    work.write("data/図")
    work.dv("add", "data")
    ran = work.process("ls", env={"PYTHONIOENCODING": "ascii"})
    assert ran.out == "data/\\u56f3\n"


@pytest.mark.parametrize("coloured", [False, True])
@pytest.mark.parametrize("say", ["line", "done", "note", "warn", "error"])
def test_no_control_character_of_a_text_reaches_a_terminal(say: str, coloured: bool) -> None:
    """Whatever a command forgets to escape: titles, moves of the cursor, directions, C1."""
    out, err = Terminal(coloured), Terminal(coloured)
    screen = Screen(environ={}, out=out, err=err)
    foreign = "\x1b]0;title\x07 \x1b[2J \x1b[10;10H \x9b31m \u202eback \r \x08 \x7f"
    getattr(screen, say)(screen.style("ours", "red") + foreign)
    written = out.getvalue() + err.getvalue()
    # On a terminal a sentence is broken between words, where a line is full.
    plain = re.sub(r"\x1b\[[0-9;]{1,4}m", "", written).removesuffix("\n").replace("\n", " ")
    assert plain.isprintable()
    assert "\\x1b]0;title\\x07" in written
    assert ("\x1b[31m" in written) is (coloured and say not in ("warn", "error"))


class Terminal(io.StringIO):
    """A stream that may say that it is a terminal."""

    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


def test_json_of_values_has_one_form() -> None:
    assert as_json({"of": {"b", "a"}, "rows": (1, None, True)}) == {
        "of": ["a", "b"],
        "rows": [1, None, True],
    }
    with pytest.raises(TypeError, match="no JSON for <class 'bytes'>"):
        as_json([b"\xff"])


def test_sentences_are_broken_between_words_and_names_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    out, err = Terminal(True), Terminal(True)
    screen = Screen(environ={"NO_COLOR": "1"}, out=out, err=err)
    screen.warn(
        "these words are more than a line can hold:\n  a/name/that/is/longer/than/a/line/too"
    )
    assert err.getvalue().splitlines() == [
        "warning: these words are more",
        "than a line can hold:",
        "  a/name/that/is/longer/than/a/line/too",
    ]
    screen.line("a line of what was asked for stays as it is")
    assert out.getvalue() == "a line of what was asked for stays as it is\n"
    piped = Terminal(False)
    Screen(environ={}, out=piped, err=piped).note("what a program reads is one line, always")
    assert piped.getvalue() == "what a program reads is one line, always\n"
