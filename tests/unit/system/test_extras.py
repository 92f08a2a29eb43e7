"""Packages of extras: a missing one is named with its extra, a broken one is not called missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvtool.errors import SetupError
from dvtool.system.extras import import_extra


def test_a_missing_package_is_named_with_its_extra() -> None:
    with pytest.raises(SetupError, match="pictures need surely_absent, which is not") as raised:
        import_extra("surely_absent.inner", extra="report", user="pictures")
    assert "extra report" in str(raised.value.hint)


def test_a_package_that_lacks_another_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_there.py").write_text("import surely_absent\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="surely_absent"):
        import_extra("half_there", extra="report", user="pictures")
