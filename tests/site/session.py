"""Runs the blocks of a page, one after the other, as a reader who types them would.

`python -m tests.site.session PAGE…` runs pages, and writes into them what the commands print;
`--check PAGE…` only says where a page shows something else.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.s3.servers import S3Server, moto_server
from tests.site import blocks as page_blocks
from tests.site.blocks import Block, Step

NEEDS_S3 = "s3_put "
"""Pages whose hidden commands make a bucket run beside a server of S3."""
FOREIGN_PREFIXES = ("AWS_", "BOTO", "DV_", "GIT_", "XDG_")
SETUP = """\
git config --global user.name You
git config --global user.email you@example.org
git config --global init.defaultBranch main
git config --global maintenance.auto false
git config --global protocol.file.allow always
git config --global advice.detachedHead false
# s3_put BUCKET makes a bucket, s3_put BUCKET/KEY TEXT or @FILE an object.
s3_put() { python -c 'import os, pathlib, sys, urllib.request as r
text = sys.argv[2] if len(sys.argv) > 2 else ""
data = pathlib.Path(text[1:]).read_bytes() if text[:1] == "@" else text.encode()
url = os.environ["AWS_ENDPOINT_URL"] + "/" + sys.argv[1]
kind = {"Content-Type": "application/octet-stream"}
r.urlopen(r.Request(url, data, kind, method="PUT")).close()' "$@"; }
"""
COMMAND_MAX_S = 300.0
"""A command that takes longer waits for something that never comes."""
READER = "/home/you"
"""The scratch folder on pages."""
HASH = r"\b[0-9a-f]{7,64}\b"
PLACEHOLDERS = (
    (r"\d{8}T\d{6}(?:\d{3})?Z-[0-9a-f]{6}", "RUN"),
    (r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?Z?)?", "TIME"),
    (HASH, "HASH"),
    (r"[-+]?\b\d+(\.\d+)? (B|KiB|MiB|GiB|TiB)(?=\W|$)", "SIZE"),
    (r"\b\d+(\.\d+)? (s|ms|min)\b", "DURATION"),
    (r"/\S*/scratch(?=/)", READER),
    (r"[ \t]+", " "),
)


def plain(text: str) -> str:
    """Return what is printed with placeholders for hashes, sizes, times and the scratch folder."""
    for pattern, name in PLACEHOLDERS:
        text = re.sub(pattern, name, text)
    return "\n".join(line.strip() for line in text.strip("\n").split("\n"))


def matches(shown: str, printed: str) -> bool:
    """Whether a page shows what was printed; `…` on a page is anything."""
    pattern = ".*".join(re.escape(part) for part in plain(shown).split("…"))
    return re.fullmatch(pattern, plain(printed), re.S) is not None


class Hashes:
    """Which hash of a page is which that was printed: what is equal on the page is equal here."""

    def __init__(self) -> None:
        self._printed: dict[str, str] = {}
        self._shown: dict[str, str] = {}

    def agree(self, shown: str, printed: str) -> bool:
        """Take the hashes of a block over; return whether they agree with those before."""
        pairs = list(zip(re.findall(HASH, shown), re.findall(HASH, printed), strict=False))
        return all(
            self._printed.setdefault(here, there) == there
            and self._shown.setdefault(there, here) == here
            for here, there in pairs
        )


class Shell:
    """One bash that runs a command after the other.

    `folder` is where it is now, `status` the exit code of the last command.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.folder = str(folder)
        self.status = 0
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=dict(environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(self, command: str) -> str:
        """Return what a command prints, on standard output and standard error."""
        assert self._bash.stdin and self._bash.stdout
        mark = uuid.uuid4().hex
        # A command that reads its input must not read the next commands.
        line = f"{{ {command}\n}} </dev/null\nlast=$?\n"
        ends = f'{line}printf "\\n{mark} %s %s\\n" $last "$PWD"; (exit $last)\n'
        self._bash.stdin.write(ends.encode())
        self._bash.stdin.flush()
        lines: list[str] = []
        watchdog = threading.Timer(COMMAND_MAX_S, os.killpg, [self._bash.pid, signal.SIGKILL])
        watchdog.start()
        for raw in self._bash.stdout:
            line = raw.decode("utf-8", "backslashreplace")
            if line.startswith(mark):
                _, status, self.folder = line.rstrip("\n").split(" ", 2)
                self.status = int(status)
                break
            lines.append(line)
        else:
            raise AssertionError(f"the shell ended, or was ended, in: {command}")
        watchdog.cancel()
        return "".join(lines).removesuffix("\n").rstrip("\n")

    def close(self) -> None:
        """End the shell."""
        assert self._bash.stdin and self._bash.stdout
        self._bash.stdin.close()
        self._bash.wait()
        self._bash.stdout.close()


class Session:
    """A reader's evening with one page, in a scratch folder."""

    def __init__(self, scratch: Path, more: Mapping[str, str]) -> None:
        self.home = scratch / "home"
        (scratch / "scratch").mkdir(parents=True)
        self.home.mkdir()
        environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(FOREIGN_PREFIXES)
        }
        folder = os.path.dirname(sys.executable)
        environ |= {
            "HOME": str(self.home),
            "PATH": f"{folder}{os.pathsep}{environ.get('PATH', os.defpath)}",
            "TZ": "UTC",
            "LC_ALL": "C.UTF-8",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_PAGER": "cat",
            **more,
        }
        self._more = dict(more)
        self.shell = Shell(scratch / "scratch", environ)
        self.shell.run(SETUP)
        self.names: dict[str, Any] = {"__name__": "__main__"}

    def run(self, block: Block) -> list[Step]:
        """Run a block; return its steps with what each printed."""
        if block.kind in ("console", "hidden"):
            commands = (
                [step.command for step in page_blocks.steps(block.body)]
                if block.kind == "console"
                else [block.body]
            )
            return [
                Step(command, self.shell.run(command), self.shell.status) for command in commands
            ]
        if block.kind == "file":
            path = Path(self.shell.folder, block.file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.body, "utf-8")
            return []
        return [Step(block.body, self._python(block.body))]

    def _python(self, source: str) -> str:
        printed = io.StringIO()
        with self._here(), contextlib.redirect_stdout(printed):
            exec(compile(source, "<page>", "exec"), self.names)
        return printed.getvalue().rstrip("\n")

    @contextlib.contextmanager
    def _here(self) -> Iterator[None]:
        """Be where the shell is, with its home and what the page adds to the environment."""
        changed = {"HOME": str(self.home), **self._more}
        folder, before = os.getcwd(), {name: os.environ.get(name) for name in changed}
        os.chdir(self.shell.folder)
        os.environ.update(changed)
        try:
            yield
        finally:
            os.chdir(folder)
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def differences(
    text: str, scratch: Path, environ: Mapping[str, str] | None = None
) -> tuple[list[str], str]:
    """Run a page; return what it shows wrongly, and the page with what is printed instead.

    `environ` is added to the environment of the commands.
    """
    session = Session(scratch, environ or {})
    hashes = Hashes()
    wrong: list[str] = []
    changed = text
    taken = page_blocks.blocks(text)
    printed: str | None = None
    try:
        for block in taken:
            if block.not_run or block.kind not in ("console", "hidden", "file", "python", "text"):
                printed = None
                continue
            if block.kind == "text":
                if printed is not None and not matches(block.body, printed):
                    wrong.append(f"python printed\n{printed}\ninstead of\n{block.body}")
                    changed = changed.replace(f"```text\n{block.body}", f"```text\n{printed}\n", 1)
                printed = None
                continue
            done = session.run(block)
            printed = done[0].shown if block.kind == "python" else None
            if block.kind == "hidden" and done[0].shown:
                wrong.append(f"hidden commands printed\n{done[0].shown}")
            if block.kind == "console":
                kept = []
                for step, real in zip(page_blocks.steps(block.body), done, strict=True):
                    if block.shortened and not step.shown:
                        kept.append(step)
                        if real.status:
                            wrong.append(f"$ {step.command}\n{real.shown}\nends: {real.status}")
                        continue
                    same = matches(step.shown, real.shown)
                    if same and ("…" in step.shown or hashes.agree(step.shown, real.shown)):
                        kept.append(step)
                        continue
                    wrong.append(f"$ {step.command}\n{real.shown}\ninstead of\n{step.shown}")
                    shown = real.shown.replace(f"{scratch}/scratch", READER)
                    kept.append(Step(step.command, shown))
                new = page_blocks.written(kept)
                changed = changed.replace(f"```console\n{block.body}", f"```console\n{new}", 1)
    finally:
        session.shell.close()
    return wrong, changed


def s3_environment(server: S3Server) -> dict[str, str]:
    """Return the variables that lead the AWS tools, and dv, to a server."""
    return {**server.env, "AWS_ENDPOINT_URL": server.endpoint_url}


@contextlib.contextmanager
def environment(text: str) -> Iterator[dict[str, str]]:
    """Start a server of S3 if a page needs one; yield what leads its commands there."""
    with contextlib.ExitStack() as stack:
        if NEEDS_S3 not in text:
            yield {}
            return
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        yield s3_environment(stack.enter_context(moto_server(Path(folder))))


def main() -> None:
    """Write into pages what their commands print; with --check, only compare."""
    names = sys.argv[1:]
    check = names[:1] == ["--check"]
    wrongs = 0
    for name in names[check:]:
        text = Path(name).read_text("utf-8")
        with tempfile.TemporaryDirectory() as scratch, environment(text) as environ:
            wrong, changed = differences(text, Path(scratch, "page"), environ)
        if not check:
            Path(name).write_text(changed, "utf-8")
        heading = f"{name}: {len(wrong)} {'wrong' if check else 'changed'}"
        print(heading, *wrong, sep="\n", flush=True)
        wrongs += len(wrong)
    sys.exit(check and wrongs > 0)


if __name__ == "__main__":
    main()
