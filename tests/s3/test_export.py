"""Exporting to a plain prefix: objects under the names of the files, put once."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvtool import UnsavedError
from tests.s3.servers import S3Server
from tests.scenario import Clone, noise


def test_files_become_objects_once(s3_env: S3Server, tmp_path: Path) -> None:
    clone = Clone.new(tmp_path / "repo")
    with clone.repo() as repo:
        repo.config.init()
    files = {"a.txt": b"one", "sub/b c.bin": noise(5000), "large.bin": noise(9 << 20)}
    for name, content in files.items():
        clone.write(f"data/{name}", content)
    clone.link("data/link", "a.txt")
    clone.add("data")
    clone.git("add", "--all")
    clone.commit("first")
    bucket = s3_env.new_bucket()
    url, options = f"s3://{bucket}/plain/prefix", {"endpoint_url": s3_env.endpoint_url}
    with clone.repo() as repo, s3_env.client() as s3:
        would = repo.export("data", url, options=options, plan_only=True)
        assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
        result = repo.export("data", url, options=options)
        assert result == would
        assert (result.files, result.kept, result.left_out) == (3, 0, ("data/link",))
        for name, content in files.items():
            answer = s3.get_object(Bucket=bucket, Key=f"plain/prefix/{name}")
            assert answer["Body"].read() == content
        assert repo.export("data", url, options=options, plan_only=True).kept == 3
        assert repo.export("data", url, options=options).kept == 3
        s3.put_object(Bucket=bucket, Key="plain/prefix/a.txt", Body=b"another")
        with pytest.raises(UnsavedError, match=r"another object under a\.txt"):
            repo.export("data", url, options=options, plan_only=True)
        s3.put_object(Bucket=bucket, Key="plain/prefix/a.txt", Body=b"two")
        with pytest.raises(UnsavedError, match=r"another object under a\.txt"):
            repo.export("data", url, options=options)
        assert repo.export("data", url, options=options, force=True).kept == 2
        answer = s3.get_object(Bucket=bucket, Key="plain/prefix/a.txt")
        assert answer["Body"].read() == b"one"
