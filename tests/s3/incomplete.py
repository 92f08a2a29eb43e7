"""A store of S3 in memory that lacks, or refuses, some of what S3 can do."""

from __future__ import annotations

import datetime
import hashlib
import re
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from tests.s3.hostile import Answer, Asked, refusal


@dataclass
class IncompleteStore:
    """Answers requests; `lacks` are verbs or powers that are missing, `denies` rights refused.

    Powers are HEAD, LIST, DELETE, ranges and conditions; rights are read, write, list, delete.
    """

    lacks: frozenset[str] = frozenset()
    denies: frozenset[str] = frozenset()
    objects: dict[str, bytes] = field(default_factory=dict)
    _written: dict[str, str] = field(default_factory=dict)

    def __call__(self, asked: Asked) -> Answer:
        kind = "LIST" if asked.is_listing else asked.verb
        key = asked.path.strip("/").partition("/")[2]
        if kind in self.lacks:
            return refusal(405 if kind == "HEAD" else 501, "NotImplemented")
        rights = {"LIST": "list", "GET": "read", "HEAD": "read", "PUT": "write", "DELETE": "delete"}
        hidden = kind in ("GET", "HEAD") and "list" in self.denies and key not in self.objects
        if rights[kind] in self.denies or hidden:
            return refusal(403, "AccessDenied", "Access Denied")
        if not key and kind != "LIST":
            return Answer() if kind == "HEAD" else refusal(501, "NotImplemented")
        return self._do(kind, key, asked)

    def _do(self, kind: str, key: str, asked: Asked) -> Answer:
        if kind == "LIST":
            return self._list(asked)
        if kind == "DELETE":
            self.objects.pop(key, None)
            return Answer(204)
        if kind == "PUT":
            if "If-None-Match" in asked.headers:
                if "conditions" in self.lacks:
                    return refusal(501, "NotImplemented", "A header you provided")
                if key in self.objects:
                    return refusal(412, "PreconditionFailed")
            self.objects[key] = asked.body
            self._written[key] = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%S.000Z}"
            return Answer(headers=self._etag(key))
        if key not in self.objects:
            return refusal(404, "NoSuchKey")
        return self._read(kind, key, asked)

    def _read(self, kind: str, key: str, asked: Asked) -> Answer:
        body, headers = self.objects[key], self._etag(key)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.headers.get("Range", ""))
        if wanted is None or "ranges" in self.lacks:
            return Answer(body=body, headers=headers)
        first = int(wanted[1])
        last = min(int(wanted[2] or len(body)), len(body) - 1)
        if first >= len(body):
            return refusal(416, "InvalidRange")
        headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
        return Answer(206, body[first : last + 1], headers)

    def _etag(self, key: str) -> dict[str, str]:
        md5 = hashlib.md5(self.objects[key], usedforsecurity=False).hexdigest()
        return {"ETag": f'"{md5}"'}

    def _list(self, asked: Asked) -> Answer:
        prefix = asked.query.get("prefix", [""])[0]
        keys = sorted(key for key in self.objects if key.startswith(prefix))
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.objects[key])}</Size>"
            f"<LastModified>{self._written[key]}</LastModified>"
            f"<ETag>{escape(self._etag(key)['ETag'])}</ETag></Contents>"
            for key in keys
        )
        text = f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>"
        return Answer(body=text.encode(), headers={"Content-Type": "application/xml"})
