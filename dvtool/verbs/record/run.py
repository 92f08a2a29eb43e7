"""run: a command from code and data that a commit fixes, and the record of it."""

from __future__ import annotations

import contextlib
import datetime
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from dvtool import __version__
from dvtool.errors import DvError, SetupError, UsageError, printable
from dvtool.format.manifest import manifest_digest
from dvtool.project.arguments import Arguments, OnePath, Paths, each_path
from dvtool.project.ledger import RUN_COMMIT, RUN_TOP, VARIABLE as LEDGER
from dvtool.project.parts import Project, require_worktree
from dvtool.system import atomic
from dvtool.system.attached import run_attached
from dvtool.verbs.add.foresee import Added
from dvtool.verbs.add.plan import plan_add, refuse_tracked
from dvtool.verbs.describe import describe
from dvtool.verbs.record.packages import packages_of
from dvtool.verbs.record.reads import collect_reads
from dvtool.verbs.record.records import (
    READS_SUFFIX,
    RECORD_SUFFIX,
    RunOutput,
    RunRecord,
    record_path,
    write_record,
)
from dvtool.verbs.record.uncommitted import (
    Uncommitted,
    find_uncommitted,
    refused,
    save_uncommitted,
)
from dvtool.verbs.status import TargetStatus

LEDGERS_FOLDER = "runs"
"""Below dvtool's folder in git's: the ledgers of runs that have not ended."""
LEDGER_AGE_MAX_S = 30 * 24 * 3600
"""A ledger this old is of a run that was killed."""
KEPT_VARIABLES = frozenset(
    (
        *("CONDA_DEFAULT_ENV", "CONDA_PREFIX", "CUBLAS_WORKSPACE_CONFIG", "CUDA_DEVICE_ORDER"),
        *("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "JAX_ENABLE_X64", "JAX_PLATFORMS"),
        *("LANG", "LC_ALL", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MKL_NUM_THREADS", "NCCL_ALGO"),
        *("NODE_RANK", "NUMEXPR_NUM_THREADS", "NVIDIA_VISIBLE_DEVICES", "OMP_NUM_THREADS"),
        *("OPENBLAS_NUM_THREADS", "PYTHONHASHSEED", "PYTHONOPTIMIZE", "PYTHONPATH", "PYTHONUTF8"),
        *("PYTORCH_CUDA_ALLOC_CONF", "RANK", "ROCR_VISIBLE_DEVICES", "SLURM_ARRAY_TASK_ID"),
        *("SLURM_JOB_ID", "SLURM_NNODES", "SLURM_NTASKS", "SLURM_PROCID", "TF_CUDNN_DETERMINISTIC"),
        *("TF_DETERMINISTIC_OPS", "TZ", "VIRTUAL_ENV", "WORLD_SIZE", "XLA_FLAGS"),
    )
)
"""The variables that a record has. Nothing else of the environment: it may be a secret."""


class RunRequest(NamedTuple):
    """A command to run, and how; see the options of `dv run`."""

    command: Sequence[str]
    out: Paths = ()
    allow_dirty: bool = False
    record: OnePath | None = None
    """The file for the record, as typed; None for the usual place."""
    environ: Mapping[str, str] = {}
    """The environment of the command, to which ids are added."""
    stdout: int | None = None
    """The descriptor that the command has for its output; None for that of this process."""
    reproduces: str | None = None


class WorktreeVerbs(NamedTuple):
    """Verbs that a run uses, as `Repo` has them."""

    status: Callable[[], list[TargetStatus]]
    add: Callable[[Sequence[str]], list[Added]]


def run(
    project: Project, arguments: Arguments, verbs: WorktreeVerbs, request: RunRequest
) -> RunRecord:
    """Run a command, and return the record of it, which is then on the disk.

    DvError, before anything is run, if code and data are not committed, unless `allow_dirty`: then
    what is not is kept in a commit for this run. Of the command's own failure the record tells. An
    output that cannot be added is an error, which the record tells too.
    """
    require_worktree(project.git)
    if not request.command:
        raise UsageError("no command is given", hint="dv run -- python train.py")
    out = _outputs(project, arguments, request)
    record = _begin(project, arguments, verbs, request, out)
    if request.record is None:
        path = record_path(project, record.id)
    else:
        path = os.path.join(arguments.cwd, os.fspath(request.record))
    write_record(path, record)
    ledger = _make_ledger(project, record.id)
    project.git.close()  # else the git that answers questions would end by the command's Ctrl-C
    environ = {
        **request.environ,
        "DV_DATA_ID": record.data_id,
        RUN_COMMIT: record.commit,
        RUN_TOP: os.path.realpath(project.root),
        "DV_RUN_ID": record.id,
        LEDGER: ledger,
    }
    started = time.monotonic()
    try:
        ended = run_attached(request.command, env=environ, cwd=arguments.cwd, stdout=request.stdout)
        record.exit_status, record.problem = ended.status, ended.problem or record.problem
    finally:
        record.end, record.seconds = _now(), round(time.monotonic() - started, 3)
        record.state = "ended"
        try:
            record.reads = collect_reads(ledger, path.removesuffix(RECORD_SUFFIX) + READS_SUFFIX)
        finally:
            write_record(path, record)
    os.unlink(ledger)
    if record.exit_status == 0 and out:
        _add_outputs(project, verbs, path, record)
    return record


def _outputs(project: Project, arguments: Arguments, request: RunRequest) -> list[str]:
    """Return the paths to be added afterwards; errors that can be told now come now."""
    out = [arguments.relative(path) for path in each_path(request.out)]
    for each in plan_add(project, out):
        refuse_tracked(project, each, untrack=False)
    return out


def _begin(
    project: Project,
    arguments: Arguments,
    verbs: WorktreeVerbs,
    request: RunRequest,
    out: list[str],
) -> RunRecord:
    run_id = _new_id()
    uncommitted = find_uncommitted(project, verbs.status(), out)
    head = project.git.head()
    commit, ref = _commit(project, run_id, uncommitted, out, allow_dirty=request.allow_dirty)
    described = describe(project, commit, is_clean=lambda: True)
    folder = os.path.relpath(os.path.realpath(arguments.cwd), os.path.realpath(project.root))
    packages, problem = packages_of(request.command, request.environ, arguments.cwd)
    return RunRecord(
        id=run_id,
        commit=commit,
        parent=head if ref else None,
        ref=ref,
        branch=project.git.branch(),
        data_id=described.data_id,
        targets=list(described.targets),
        command=list(request.command),
        folder="" if folder == "." else folder.replace(os.sep, "/"),
        environment={
            name: text for name, text in sorted(request.environ.items()) if name in KEPT_VARIABLES
        },
        packages=packages,
        start=_now(),
        problem=problem,
        out=out,
        reproduces=request.reproduces,
        dvtool=__version__,
    )


def _commit(
    project: Project,
    run_id: str,
    uncommitted: Uncommitted,
    out: Sequence[str],
    *,
    allow_dirty: bool,
) -> tuple[str, str | None]:
    """Return the commit that has code and data, and the ref that was made for it."""
    head = project.git.head()
    if head is not None and not uncommitted:
        return head, None
    if allow_dirty:
        return save_uncommitted(project, run_id, uncommitted, out)
    if not uncommitted:
        raise SetupError("there is no commit yet; nothing was run", hint="run: git commit")
    raise refused(uncommitted)


def _new_id() -> str:
    """Return an id for a run: its time in UTC, to the millisecond, so that ids sort by time."""
    now = datetime.datetime.now(datetime.UTC)
    return f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03}Z-{os.urandom(3).hex()}"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def _make_ledger(project: Project, run_id: str) -> str:
    """Make the file in which the command's processes note what they read."""
    folder = os.path.join(project.git.common_dir, "dv", LEDGERS_FOLDER)
    atomic.make_folders(folder)
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        with contextlib.suppress(FileNotFoundError):
            if time.time() - os.stat(path).st_mtime > LEDGER_AGE_MAX_S:
                os.unlink(path)
    ledger = os.path.join(folder, f"{run_id}.ledger")
    with open(ledger, "xb"):
        return ledger


def _add_outputs(project: Project, verbs: WorktreeVerbs, path: str, record: RunRecord) -> None:
    try:
        added = verbs.add([project.absolute(each) for each in record.out])
        manifests = project.manifests_here()
        chosen = {target: manifests[target] for target in sorted(result.target for result in added)}
    except BaseException as error:
        record.problem = f"the outputs were not added: {printable(str(error))}"
        write_record(path, record)
        if isinstance(error, DvError):  # its kind and exit code stay
            error.args = (f"run {record.id} has ended with 0, but {record.problem}",)
        raise
    record.outputs = [
        RunOutput(
            target=target,
            blake3=manifest_digest(manifest).hex(),
            files=manifest.files,
            bytes=manifest.bytes,
        )
        for target, manifest in chosen.items()
    ]
    write_record(path, record)
