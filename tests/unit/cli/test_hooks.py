"""What git writes to a hook, read."""

from __future__ import annotations

import pytest

from dvtool.cli.hook_work import parse_refs
from dvtool.errors import DvError

ZEROS, A, B, C = "0" * 40, "a" * 40, "b" * 40, "c" * 40


def test_refs_to_push() -> None:
    refs = parse_refs(
        [
            f"refs/heads/one {A} refs/heads/one {ZEROS}",
            f"(delete) {ZEROS} refs/heads/gone {B}",
            f"refs/heads/two {B} refs/heads/two {C}",
            f"HEAD {A} refs/heads/three {C}",
            "",
        ]
    )
    assert refs.new == (A, B)
    assert refs.old == (C,)
    assert parse_refs([]).new == ()
    with pytest.raises(DvError, match="means nothing"):
        parse_refs(["what is this"])
