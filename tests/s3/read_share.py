"""One reader of a node: `python -m tests.s3.read_share` prints the keys and hashes of its share.

It begins once as many readers as there are have a file in a folder.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path

from dvtool.stream import Stream

PATIENCE_S = 120


def main() -> None:
    repo, folder, window, rank, world_size, worker, workers = sys.argv[1:]
    stream = Stream("data", repo=repo, window=int(window))
    share = stream.epoch(
        0, int(rank), int(world_size), worker=int(worker), workers=int(workers), batch_size=4
    )
    ready = Path(folder)
    (ready / f"{rank}-{worker}").touch()
    deadline = time.monotonic() + PATIENCE_S
    while len(list(ready.iterdir())) < int(world_size) * int(workers):
        assert time.monotonic() < deadline, "the other readers did not come"
        time.sleep(0.001)
    hashes = [(sample.key, hashlib.sha256(sample.data).hexdigest()) for sample in share]
    print(json.dumps(hashes))


if __name__ == "__main__":
    main()
