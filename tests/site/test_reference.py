"""The pages that are made from the code say what the code says."""

from __future__ import annotations

import pytest

from tests.site import reference
from tests.site.blocks import DOCS

MADE = reference.pages()


@pytest.mark.parametrize("name", MADE)
def test_a_page_is_up_to_date(name: str) -> None:
    written = (DOCS / "reference" / name).read_text("utf-8")
    assert written == MADE[name], "run: python -m tests.site.reference"


def test_every_command_is_in_it() -> None:
    for line in reference.every_command():
        assert f"\n### dv {line}\n" in MADE["cli.md"]
