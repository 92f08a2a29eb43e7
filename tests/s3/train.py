"""A training run that only notes what it gets: `python -m tests.s3.train`, in a process to kill.

It takes up the run of a log, if there is one, and appends a line of JSON for each batch: hashes of
keys and data in order, and the state after it.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from dvtool.stream import Stream
from dvtool.stream.torch import StreamLoader


def main() -> None:
    repo, log, window, workers, pause_s = sys.argv[1:]
    stream = Stream("data", repo=repo, window=int(window))
    loader = StreamLoader(stream, 8, int(workers))
    done = read_log(Path(log))
    if done:
        loader.load_state_dict(done[-1]["state"])
    with open(log, "a", encoding="utf-8") as file:
        for batch in loader:
            hashes = [
                hashlib.sha256(key.encode() + b"\0" + data).hexdigest()
                for key, data in zip(batch["key"], batch["data"], strict=True)
            ]
            line = json.dumps({"hashes": hashes, "state": loader.state_dict()})
            print(line, file=file, flush=True)
            time.sleep(float(pause_s))


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a log, less one that was cut off, which goes from the file too."""
    if not path.exists():
        return []
    whole, _, rest = path.read_text("utf-8").rpartition("\n")
    if rest:
        path.write_text(f"{whole}\n", "utf-8")
    return [json.loads(line) for line in whole.splitlines()]


if __name__ == "__main__":
    main()
