"""Breaks promises on purpose, one at a time, in a copy of the project: do its tests notice?

Run by scripts/mutants, with parts of the names of breaks to try only those. It prints a table and
exits with 1 if a break slipped through. A break that no test notices asks for a test.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
LEFT_OUT = shutil.ignore_patterns(".git", ".venv*", "__pycache__", ".*_cache", "dist", "build")
TIME_MAX_S = 300.0
PASSED, FAILED = 0, 1
"""What pytest exits with; all else means that it did not get as far as to judge."""


@dataclass(frozen=True, slots=True)
class Break:
    """A change of `old`, which stands once in `file`, that breaks a promise of docs/design.md."""

    name: str
    promise: int
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


BREAKS = (
    Break(
        "two threads make what msgspec knows of a struct at the same time",
        8,
        "dvtool/system/decoders.py",
        "        with _making:\n            decoder = _json",
        "        if True:\n            decoder = _json",
        ("tests/unit/system/test_decoders.py::test_threads_make_a_decoder_one_after_the_other",),
    ),
    Break(
        "an interrupt while msgspec loads makes it crash",
        8,
        "dvtool/cli/__init__.py",
        "    with uninterrupted():  # its",
        "    if True:  # its",
        ("tests/cli/test_startup.py::test_ctrl_c_waits_until_msgspec_is_loaded",),
    ),
    Break(
        "Ctrl-C that another thread takes cuts in two what it must not",
        8,
        "dvtool/system/interrupts.py",
        "            signal.signal(signal.SIGINT, lambda *arguments: came.append(arguments))",
        "            pass",
        ("tests/unit/system/test_interrupts.py::test_it_is_held_back_from_whatever_thread_takes_it",),
    ),
    Break(
        "what a disk said to a second process is not said",
        4,
        "dvtool/verbs/add/manifest.py",
        "        if stored.errno:",
        "        if False:",
        ("tests/unit/jobs/test_small_files.py::"
         "test_what_a_disk_says_to_a_second_process_is_said",),
    ),
    Break(
        "a second process that is ended leaves unfinished files",
        4,
        "dvtool/system/workers.py",
        "                    os.kill(child, signal.SIGTERM)\n",
        "                    os.kill(child, signal.SIGKILL)\n",
        ("tests/unit/system/test_workers.py::"
         "test_a_copy_that_is_not_waited_for_clears_up",),
    ),
    Break(
        "a list that no writer stores so goes on to other remotes as it came",
        3,
        "dvtool/format/locations.py",
        "    if len(parts.text) > parts.text_raw_size or window_bytes > ZSTD_WINDOW_MAX_BYTES:",
        "    if False:",
        ("tests/unit/format/test_locations.py::"
         "test_a_text_that_no_writer_stores_so_is_not_kept_as_it_came",),
    ),
    Break(
        "a status believes what was seen for an earlier command of the same process",
        2,
        "dvtool/workspace/folder_state.py",
        "        finally:\n            _early_look = None\n",
        "        finally:\n            pass\n",
        ("tests/cli/test_early_look.py::test_after_the_block_nothing_of_it_is_believed",),
    ),
    Break(
        "an early look counts also where links are followed",
        2,
        "dvtool/workspace/folder_state.py",
        "        return just_now and self.root == root and not links and",
        "        return just_now and self.root == root and",
        ("tests/cli/test_early_look.py::"
         "test_only_the_folders_of_the_look_itself_are_taken_from_it",),
    ),
    Break(
        "an early look is believed however long ago it was",
        2,
        "dvtool/workspace/folder_state.py",
        "        return just_now and self.root == root",
        "        return self.root == root",
        ("tests/cli/test_early_look.py::test_what_was_seen_some_time_ago_is_not_believed",),
    ),
    Break(
        "git's exit statuses are lost where the caller ignores the end of processes",
        2,
        "dvtool/cli/__init__.py",
        "        signal.signal(signal.SIGCHLD, signal.SIG_DFL)\n",
        "        pass\n",
        ("tests/cli/test_early_look.py::"
         "test_a_caller_that_ignores_the_end_of_processes_changes_nothing",),
    ),
    Break(
        "an early look opens the statcache of a repository of another user",
        8,
        "dvtool/project/early_look.py",
        " and folder.st_uid == os.geteuid()\n",
        "\n",
        ("tests/cli/test_early_look.py::"
         "test_where_it_is_not_plain_what_is_meant_nothing_begins",),
    ),
    # --- streams --------------------------------------------------------------------------
    Break(
        "a sample that was read straight out of a pack is not checked",
        2,
        "dvtool/snapshots/direct.py",
        "            if hasher(data).digest() != digest:\n",
        "            if False:\n",
        ("tests/unit/stream/test_direct.py::test_a_changed_byte_is_found",),
    ),
    Break(
        "the first samples of an epoch are taken before their bytes have come",
        2,
        "dvtool/snapshots/direct.py",
        "    while not wait([fetching], ARRIVAL_PAUSE_S).done:\n        if direct.has_come():\n",
        "    while not wait([fetching], ARRIVAL_PAUSE_S).done:\n        if True:\n",
        ("tests/s3/test_stream.py::"
         "test_the_first_samples_come_while_the_rest_of_their_block_is_on_the_way",),
    ),
    Break(
        "workers stay for ever when their trainer is killed with many batches ready",
        3,
        "dvtool/stream/torch.py",
        "    if os.getppid() != parent or (trainer",
        "    if os.getppid() == parent and (trainer",
        ("tests/unit/stream/test_torch.py::"
         "test_workers_end_when_the_trainer_is_killed[stream]",),
    ),
    Break(
        "workers that persist read the first epoch over and over",
        2,
        "dvtool/stream/torch.py",
        "        epoch, skip = self._taken_up or (self._chosen.read()[0], 0)\n",
        "        epoch, skip = self._taken_up or (0, 0)\n",
        ("tests/unit/stream/test_torch.py::"
         "test_workers_that_persist_read_each_epoch_once",),
    ),
    Break(
        "what a gc of the remote moved is asked for only where it was before",
        2,
        "dvtool/snapshots/source.py",
        "            with contextlib.suppress(ObjectMissing):  # a gc has moved it",
        "            with contextlib.suppress():  # a gc has moved it",
        ("tests/unit/stream/test_fetching.py::"
         "test_what_a_gc_moved_meanwhile_is_fetched_from_where_it_is_now",),
    ),
    Break(
        "lists of a remote that are not in memory any more are read for each content by itself",
        2,
        "dvtool/snapshots/remote.py",
        "            if ref.digest not in self._unlisted and self._places",
        "            if False and self._places",
        ("tests/unit/snapshots/test_places.py::"
         "test_lists_that_were_forgotten_are_read_again_for_all_of_a_window",),
    ),
    Break(
        "a small cache loses windows that were fetched too early",
        2,
        "dvtool/stream/stream.py",
        "AHEAD_MAX if stream.snapshot.cache_bytes_max",
        "AHEAD_MAX if AHEAD_CACHE or stream.snapshot.cache_bytes_max",
        ("tests/unit/stream/test_ahead.py::test_a_small_cache_has_one_window_ahead",),
    ),
    Break(
        "a pack that a remote lost is asked for there again and again, and never elsewhere",
        2,
        "dvtool/snapshots/remote.py",
        "        self._lost.note(number, span.pack.digest)\n",
        "        pass\n",
        ("tests/unit/snapshots/test_several_remotes.py::"
         "test_packs_that_the_first_remote_lost_come_from_the_second",),
    ),
    Break(
        "a forked worker keeps settings of an environment that is not its own",
        7,
        "dvtool/snapshots/opened.py",
        "before_fork is not None and before_fork._environ_then == dict(environ)",
        "before_fork is not None",
        ("tests/unit/stream/test_stream.py::"
         "test_a_forked_worker_asks_git_again_only_in_another_environment",),
    ),
    # --- many files -----------------------------------------------------------------------
    Break(
        "a shard is read fast without looking whether it is laid out as dvtool writes it",
        6,
        "dvtool/format/file_columns.py",
        "        or not _is_canonical(text, paths, sizes)\n",
        "",
        ("tests/unit/format/test_file_columns.py::"
         "test_no_bent_text_is_read_that_is_refused",),
    ),
    Break(
        "places that a remote states for files are not compared with their sizes",
        2,
        "dvtool/format/file_places.py",
        "    if counts.count(1) != contents or places[4] != sizes:\n",
        "    if counts.count(1) != contents:\n",
        ("tests/unit/format/test_file_places.py::"
         "test_no_changed_byte_of_the_places_gives_others",),
    ),
    Break(
        "a file that somebody wrote to as it got its name counts as dvtool left it",
        7,
        "dvtool/workspace/unnamed.py",
        "        ours = mtime_ns == now.st_mtime_ns and complete.st_size == now.st_size\n",
        "        ours, mtime_ns = True, now.st_mtime_ns\n",
        ("tests/unit/workspace/test_files.py::"
         "test_an_edit_between_the_name_and_the_look_is_noticed",),
    ),
    Break(
        "a chunk counts as here once many are asked for",
        1,
        "dvtool/store/database.py",
        "            yield from [row for row in batch if row[0] in wanted]\n",
        "            yield from [(key, *row[1:]) for key, row in zip(wanted, batch)]\n",
        ("tests/unit/store/test_database.py::"
         "test_many_chunks_are_found_whether_each_is_looked_up_or_every_row_is_read",),
    ),
    # --- switching ------------------------------------------------------------------------
    Break(
        "a shard is compared with another by its lines, whatever its hash",
        2,
        "dvtool/format/edits.py",
        "    if digest_of(text) != ref.digest:\n",
        "    if not text:\n",
        ("tests/unit/format/test_edits.py::"
         "test_a_list_that_is_not_what_its_name_says_is_not_believed",),
    ),
    Break(
        "a folder with a file that stayed behind counts as the new manifest has it",
        7,
        "dvtool/workspace/agreement.py",
        "        if path[len(target) + 1 :] not in changed\n        and olds",
        "        if olds",
        ("tests/property/test_following.py::"
         "test_a_file_that_cannot_be_written_is_not_called_as_the_manifest_has_it",),
    ),
    Break(
        "a switch takes a file for the old one though the user edited it",
        7,
        "dvtool/verbs/checkout/follow.py",
        "        unchanged = any(one.is_file and one.digest == digest for one in known)\n",
        "        unchanged = any(one.is_file for one in known)\n",
        ("tests/property/test_following.py::"
         "test_an_edit_to_what_the_store_has_is_kept_too",),
    ),
    # --- restore, sparse, remote rename, add -u -------------------------------------------
    Break(
        "restore replaces content that is saved nowhere",
        1,
        "dvtool/verbs/checkout/restore.py",
        "    saved = save_unsaved(project, plans)\n",
        "    saved = list[Saved]()\n",
        ("tests/cli/test_restore.py::"
         "test_restore_undoes_changes_and_saves_what_was_nowhere_else",),
    ),
    Break(
        "restore from a revision changes the manifest",
        7,
        "dvtool/verbs/checkout/restore.py",
        "    if not request.manifests:\n        commit = None\n",
        "    if not request.manifests:\n",
        ("tests/cli/test_restore.py::test_restore_from_a_revision_leaves_the_manifest",),
    ),
    Break(
        "what a restore took away counts as never there",
        7,
        "dvtool/verbs/checkout/restore.py",
        "            part.plan.stays_tracked = True\n",
        "            part.plan.stays_tracked = False\n",
        ("tests/cli/test_restore.py::test_restore_from_a_revision_leaves_the_manifest",),
    ),
    Break(
        "sparse removes files that were changed",
        7,
        "dvtool/verbs/sparse.py",
        "digest in lacking or file_entry(scan, path) != out[path]:\n",
        "digest in lacking:\n",
        ("tests/cli/test_sparse.py::test_what_was_changed_to_something_stored_stays",),
    ),
    Break(
        "sparse removes files whose content no store has",
        1,
        "dvtool/verbs/sparse.py",
        "digest is None or digest in lacking or file_entry",
        "digest is None or file_entry",
        ("tests/cli/test_sparse.py::test_what_the_store_lacks_stays",),
    ),
    Break(
        "a pull brings what standing rules leave out",
        7,
        "dvtool/verbs/checkout/restore.py",
        "            heed_rules(checkout_plan, project.sparse_rules())\n",
        "            pass\n",
        ("tests/cli/test_sparse.py::test_only_what_the_rules_take_is_pulled",),
    ),
    Break(
        "the hooks bring what standing rules leave out",
        7,
        "dvtool/verbs/checkout/follow.py",
        " if path in here or rules.takes(target, path)}\n",
        "}\n",
        ("tests/cli/test_sparse.py::test_the_hooks_bring_nothing_that_is_left_out",),
    ),
    Break(
        "a remote is trusted once it is renamed",
        8,
        "dvtool/project/settings.py",
        "        if trusted:\n            self._approvals.trust([self.remote(new)])\n",
        "        self._approvals.trust([self.remote(new)])\n",
        ("tests/cli/test_remote.py::test_rename_trusts_nothing",),
    ),
    Break(
        "the default remote is another one once it is renamed",
        3,
        "dvtool/project/settings.py",
        "            if default and git.config.get_in(",
        "            if not default and git.config.get_in(",
        ("tests/cli/test_remote.py::test_rename",),
    ),
    Break(
        "add -u takes what is new",
        7,
        "dvtool/verbs/add/publish.py",
        "        result.left_new = leave_new(project, before, scan)\n",
        "        result.left_new = []\n",
        ("tests/cli/test_add.py::test_add_update_takes_nothing_new",),
    ),
    Break(
        "a folder in which add -u left something new counts as unchanged",
        7,
        "dvtool/verbs/add/publish.py",
        "*racy, *result.outdated, *result.left_new]\n",
        "*racy, *result.outdated]\n",
        ("tests/cli/test_add.py::test_add_update_takes_nothing_new",),
    ),
    # --- references -----------------------------------------------------------------------
    Break(
        "bytes of an object that says it did not change are believed",
        2,
        "dvtool/remotes/references.py",
        "            if len(chunk) != size or digest_of(chunk) != digest:\n",
        "            if len(chunk) != size:\n",
        ("tests/s3/test_reference.py::test_other_bytes_under_the_same_etag_are_never_given",),
    ),
    Break(
        "drop frees the only copy of data whose source is not what it was",
        1,
        "dvtool/remotes/evidence.py",
        "            or ref.digest in referring\n",
        "",
        ("tests/s3/test_reference.py::"
         "test_a_drop_reads_from_the_source_though_the_remote_states_its_objects",),
    ),
    Break(
        "drop frees the store's copy of a file that another worktree has, and only a source",
        1,
        "dvtool/verbs/drop.py",
        "            needed |= stays if request.workspace else referenced\n",
        "            needed |= set() if request.workspace else referenced\n",
        ("tests/s3/test_reference.py::"
         "test_a_drop_leaves_the_copy_of_files_that_another_worktree_has",),
    ),
    Break(
        "gc forgets where referenced data is that a manifest names",
        1,
        "dvtool/verbs/gc/local.py",
        "                    needed.contents | since.contents, before_s=now_s - rule.grace_s\n",
        "                    since.contents, before_s=now_s - rule.grace_s\n",
        ("tests/s3/test_reference.py::"
         "test_gc_forgets_the_references_that_no_manifest_names",),
    ),
    Break(
        "a push does not ask the sources of what it publishes",
        3,
        "dvtool/verbs/push/references.py",
        "            lost, sound = access.prove(list(first.values()), planning.project.progress)\n",
        "            lost: dict[Digest, DvError] = {}\n",
        ("tests/s3/test_reference.py::test_an_object_that_was_put_back_is_good_again",),
    ),
    Break(
        "a push believes an ETag, whenever the object was written",
        3,
        "dvtool/remotes/references.py",
        "                elif said not in (0, reference.modified):\n",
        "                elif False:\n",
        ("tests/s3/test_reference.py::"
         "test_other_bytes_of_the_same_etag_are_found_by_the_time_they_were_written",),
    ),
    Break(
        "the time of an object that may be written again in the same second is trusted",
        3,
        "dvtool/remotes/origins/s3.py",
        "headers.get(\"date\", \"\"))) - written_s >= SETTLED_S:\n",
        "headers.get(\"date\", \"\"))) - written_s >= 0:\n",
        ("tests/s3/test_reference.py::"
         "test_a_time_that_tells_nothing_has_the_object_read_again",),
    ),
    Break(
        "results of a worker are noted that the journal does not have",
        1,
        "dvtool/verbs/imports/on_cluster.py",
        "                    journal.add(batch.name, result)\n",
        "",
        ("tests/cluster/test_losses.py::"
         "test_packs_that_nobody_came_to_name_are_found_by_gc_after_its_grace",),
    ),
    Break(
        "a batch is taken for done whose pack is gone from the remote",
        1,
        "dvtool/verbs/imports/on_cluster.py",
        "                    taken.forget_between(batch.first, batch.last)\n",
        "                    pass\n",
        ("tests/cluster/test_losses.py::test_packs_that_vanished_are_made_again",),
    ),
    # --- imports --------------------------------------------------------------------------
    Break(
        "files of a job that is not done are taken for data",
        6,
        "dvtool/verbs/imports/listing.py",
        "        elif passes(path) and not (left and leftovers.leaves_out(left)):\n",
        "        elif passes(path):\n",
        ("tests/s3/test_leftovers.py::test_leftovers_change_neither_data_nor_manifest",),
    ),
    Break(
        "a run that fails leaves the files that it wrote beside git's data",
        3,
        "dvtool/verbs/imports/staging.py",
        "            shutil.rmtree(staging.folder, ignore_errors=True)\n",
        "            pass\n",
        ("tests/s3/test_import_staged.py::test_a_run_that_fails_leaves_no_files",),
    ),
    Break(
        "of a staged file that could not be written whole, a part stays",
        3,
        "dvtool/workspace/staged.py",
        "            os.unlink(name, dir_fd=folder)\n",
        "",
        ("tests/unit/workspace/test_staged.py::"
         "test_of_a_file_that_could_not_be_written_nothing_stays",),
    ),
    Break(
        "staged files take the place of what appeared there meanwhile",
        3,
        "dvtool/workspace/files.py",
        "                rename_new(old, new, folder=at, into=into)\n",
        "                os.rename(source, new, dst_dir_fd=into)\n",
        ("tests/unit/workspace/test_staged.py::"
         "test_a_folder_is_brought_to_where_nothing_is_alone",),
    ),
    Break(
        "a worker asks the bucket of the batch before",
        3,
        "dvtool/jobs/take.py",
        "    if before is not None and pid == os.getpid() and before == origin:\n",
        "    if before is not None and pid == os.getpid():\n",
        ("tests/s3/test_import_staged.py::test_two_buckets_are_told_apart",),
    ),
    # --- reading without a checkout -------------------------------------------------------
    Break(
        "chunks that a remote names for a file are believed to make it",
        2,
        "dvtool/snapshots/source.py",
        "            if digest_of(results[index]) != made.digest:\n",
        "            if False:\n",
        ("tests/unit/snapshots/test_snapshot.py::"
         "test_a_remote_that_names_other_chunks_is_not_believed",),
    ),
    Break(
        "a file that is read in order is not compared with its hash",
        2,
        "dvtool/snapshots/file.py",
        "        if self._whole.digest() != self._content.digest:\n",
        "        if False:\n",
        ("tests/unit/snapshots/test_snapshot.py::"
         "test_a_file_read_in_order_is_proven_by_its_hash",),
    ),
    Break(
        "a connection with the rest of an answer is used for the next request",
        2,
        "dvtool/remotes/transports/s3/plain_gets.py",
        "        reusable = not self._left and",
        "        reusable = True or",
        ("tests/unit/remotes/transports/test_plain_gets.py::"
         "test_a_connection_that_is_half_read_is_closed",),
    ),
    Break(
        "each attempt takes another connection that died in silence",
        2,
        "dvtool/remotes/transports/s3/plain_gets.py",
        "                _close_all(self._idle)  # or",
        "                # or",
        ("tests/unit/remotes/transports/test_plain_gets.py::"
         "test_after_a_standstill_no_connection_that_was_kept_is_used",),
    ),
    Break(
        "a read that is tried again goes on behind the bytes that were lost",
        2,
        "dvtool/snapshots/file.py",
        "            self._failed = error\n",
        "            self._failed = None\n",
        ("tests/unit/snapshots/test_failing_reads.py::"
         "test_a_read_tried_again_does_not_go_on_behind_the_bytes_that_were_lost",),
    ),
    Break(
        "memory of a window is used again while a call has views of it",
        2,
        "dvtool/snapshots/file.py",
        "            self._left += before.rooms\n",
        "            self._spare += before.rooms\n",
        ("tests/unit/snapshots/test_snapshot.py::"
         "test_memory_that_is_used_again_is_not_that_of_a_call_under_way",),
    ),
    Break(
        "a body that breaks off is as good as a whole one where it is received into memory",
        2,
        "dvtool/remotes/transports/s3/answers.py",
        "            if not size:\n                raise self._broke_off(key, written, expected)\n",
        "            if not size:\n                break\n",
        ("tests/s3/test_receive.py::test_an_answer_that_is_wrong_is_no_success",),
    ),
    Break(
        "a whole file that is served in parts is not checked as a whole",
        2,
        "dvtool/serve/objects.py",
        "            if until == end and whole.hexdigest() != stored.listed.blake3:\n",
        "            if False:\n",
        ("tests/unit/serve/test_bucket.py::"
         "test_a_whole_file_that_is_read_in_parts_is_checked_as_a_whole",),
    ),
    Break(
        "a token of a listing reaches commits that are not served",
        2,
        "dvtool/serve/bucket.py",
        "        if not hmac.compare_digest(seal, self._seal(text, prefix)):\n",
        "        if not data:\n",
        ("tests/unit/serve/test_bucket.py",),
    ),
    Break(
        "a change of a signed request is not noticed",
        2,
        "dvtool/serve/signature.py",
        "    if not any(matches):\n",
        "    if not matches:\n",
        ("tests/unit/serve/test_bucket.py",),
    ),
    # --- data from elsewhere --------------------------------------------------------------
    Break(
        "a source that nobody approved is asked",
        8,
        "dvtool/verbs/imports/update.py",
        "            approvals.local_options(_askable(target, project.manifest(target)))\n",
        "            approvals.approve(_askable(target, project.manifest(target)), {})\n",
        ("tests/s3/test_import.py::test_a_clone_asks_nobody_before_it_is_told_to",),
    ),
    Break(
        "a source that nobody could have typed is put to a person for approval",
        8,
        "dvtool/verbs/imports/update.py",
        "    if fault is not None:\n        file = printable(target + SUFFIX)\n",
        "    if fault is None:\n        return source\n    if False:\n"
        "        file = printable(target + SUFFIX)\n",
        (
            "tests/cli/test_source.py"
            "::test_a_source_that_can_be_none_is_refused_before_anybody_approves_it",
        ),
    ),
    Break(
        "an update goes on over files that were edited",
        7,
        "dvtool/verbs/imports/bring.py",
        "    if stuck:\n",
        "    if False:\n",
        ("tests/s3/test_import.py::test_edited_files_are_refused_and_kept",),
    ),
    Break(
        "the state that an edited target was updated to is recorded nowhere",
        7,
        "dvtool/verbs/imports/bring.py",
        "    keep_as_taken(project, there.target, theirs.manifest)\n",
        "",
        ("tests/s3/test_import.py::test_edited_files_are_refused_and_kept",),
    ),
    Break(
        "an object that changed after it was listed is taken for what was listed",
        2,
        "dvtool/remotes/origins/s3.py",
        "            if tag and _bare(headers.get(\"etag\", tag)) != tag:\n",
        "            if False:\n",
        ("tests/s3/test_import.py::test_an_object_that_changes_under_way_is_named",),
    ),
    Break(
        "every reader of a machine fetches a block by itself",
        4,
        "dvtool/snapshots/cache.py",
        "                held.enter_context(locked(lock,",
        "                _ = (locked(lock,",
        ("tests/unit/snapshots/test_cache.py::test_one_reader_at_a_time_gets_a_block",),
    ),
    # --- reports --------------------------------------------------------------------------
    Break(
        "names and cells are markup in a report",
        8,
        "dvtool/reports/markup.py",
        "    escaped = html.escape(safe, quote=True)\n",
        "    escaped = safe\n",
        ("tests/unit/reports/test_report.py::test_hostile_content_is_inert",),
    ),
    Break(
        "a report decodes a picture of any size",
        8,
        "dvtool/reports/pictures.py",
        "                if width * height > PIXELS_MAX:\n",
        "                if False:\n",
        ("tests/unit/reports/test_report.py::test_hostile_content_is_inert",),
    ),
    # --- nothing is lost ------------------------------------------------------------------
    Break(
        "a dv.json that cannot be seen is replaced",
        1,
        "dvtool/remotes/remote.py",
        "        if not self._may_list:\n            self._see_that",
        "        if False:\n            self._see_that",
        ("tests/s3/test_incomplete.py::"
         "test_who_may_only_write_is_told_which_right_is_missing",),
    ),
    Break(
        "a disk without flock has no locks",
        1,
        "dvtool/system/locking.py",
        "            with _marked(path + HELD_SUFFIX, deadline_s, busy):\n",
        "            with contextlib.nullcontext():\n",
        ("tests/unit/system/test_locking.py::test_one_holds_it_and_the_other_waits",),
    ),
    Break(
        "no ref keeps what a run had uncommitted",
        1,
        "dvtool/verbs/record/uncommitted.py",
        "        project.git.make_ref(ref, commit)\n",
        "        pass\n",
        ("tests/cli/test_run.py::test_gc_keeps_what_only_a_run_needs",),
    ),
    Break(
        "a file takes its name before it is flushed",
        1,
        "dvtool/system/atomic.py",
        "                flush_to_disk(file.fileno())\n",
        "                pass\n",
        ("tests/crash/test_order.py::"
         "test_a_file_is_flushed_before_it_takes_its_name_and_its_folder_after[add-sharded]",),
    ),
    Break(
        "of several files none is flushed before it takes its name",
        1,
        "dvtool/system/atomic.py",
        "            _all_done(flush_to_disk, descriptors)\n",
        "            _all_done(bool, descriptors)\n",
        ("tests/unit/system/test_atomic.py",),
    ),
    Break(
        "a pack is finished without being flushed",
        1,
        "dvtool/format/packing.py",
        "            if self._durable:\n",
        "            if False:\n",
        ("tests/unit/format/test_packing.py",),
    ),
    Break(
        "a pack that could not be written is finished later",
        2,
        "dvtool/format/packing.py",
        "                unfinished.writer.add(*chunk)\n"
        "            except BaseException:\n"
        "                self.abandon()\n"
        "                raise\n",
        "                unfinished.writer.add(*chunk)\n"
        "            except BaseException:\n"
        "                raise\n",
        ("tests/unit/format/test_packing.py",),
    ),
    Break(
        "a pack that was not flushed by who wrote it is not flushed at all",
        1,
        "dvtool/store/local.py",
        "            for temp in () if flushed else made:\n",
        "            for temp in ():\n",
        ("tests/crash/test_order.py::test_a_file_is_flushed_before_it_takes_its_name_and_its_folder_after",),
    ),
    Break(
        "store.db names packs whose names are not flushed",
        1,
        "dvtool/store/local.py",
        "        for folder in folders | {os.path.join(self.path, PACKS)}:\n"
        "            sync_folder(folder)\n"
        "        self.db.add_packs(infos)\n",
        "        self.db.add_packs(infos)\n"
        "        for folder in folders | {os.path.join(self.path, PACKS)}:\n"
        "            sync_folder(folder)\n",
        ("tests/crash/test_order.py::test_what_is_referred_to_comes_first[packs before store.db]",),
    ),
    Break(
        "names of shards that were found are not made durable",
        1,
        "dvtool/store/local.py",
        "{shards_folder, *folders} - {os.path.dirname(path) for path, _ in contents}",
        "{shards_folder}",
        (
            "tests/unit/store/test_local.py"
            "::test_the_names_of_shards_that_are_here_are_made_durable_too",
        ),
    ),
    Break(
        "store.db names packs that are not in place",
        1,
        "dvtool/store/local.py",
        "        all_packs = list(packs)\n        with _removing_on_error() as made:\n",
        "        all_packs = list(packs)\n"
        "        self.db.add_packs([info for _, info in all_packs])\n"
        "        with _removing_on_error() as made:\n",
        ("tests/unit/store/test_local.py",),
    ),
    Break(
        "a pack goes before what stays of it is in another",
        1,
        "dvtool/store/freeing.py",
        "    store.adopt(fresh)\n"
        "    infos = [info for _, info in fresh]\n"
        "    names = {info.digest for info in infos}\n"
        "    _remove_packs("
        "store, {d: old for d, old in places.items() if d not in names}, infos)\n",
        "    infos = [info for _, info in fresh]\n"
        "    names = {info.digest for info in infos}\n"
        "    _remove_packs("
        "store, {d: old for d, old in places.items() if d not in names}, infos)\n"
        "    store.adopt(fresh)\n",
        ("tests/crash/test_order.py::test_what_is_referred_to_comes_first"
         "[what stays of a pack before the pack goes]",),
    ),
    Break(
        "checkout replaces unsaved changes",
        1,
        "dvtool/verbs/checkout/plan.py",
        "    result.unsaved = sorted(lost.keys() - ours)\n",
        "    result.unsaved = []\n",
        ("tests/cli/test_checkout.py",),
    ),
    Break(
        "checkout replaces what was edited meanwhile",
        1,
        "dvtool/verbs/checkout/write.py",
        "                _filler(reader, place, entry),\n"
        "                executable=entry.exec,\n"
        "                believed=plan.scan.believed(path),\n",
        "                _filler(reader, place, entry),\n"
        "                executable=entry.exec,\n"
        "                believed=None,\n",
        ("tests/cli/test_meanwhile.py",),
    ),
    Break(
        "what was exchanged for a new file is not looked at",
        1,
        "dvtool/workspace/last_look.py",
        "    if _is_still_there(aside, folder, believed, content=True):\n",
        "    if True:\n",
        ("tests/unit/workspace/test_last_look.py",),
    ),
    Break(
        "what was moved aside to be removed is not looked at",
        1,
        "dvtool/workspace/last_look.py",
        "        as_believed = _is_still_there(aside, folder, believed, content=True)\n",
        "        as_believed = True\n",
        ("tests/unit/workspace/test_last_look.py",),
    ),
    Break(
        "a file's stat is believed when the file is replaced or removed",
        1,
        "dvtool/workspace/last_look.py",
        "    if content and believed.digest:\n",
        "    if False:\n",
        ("tests/unit/workspace/test_last_look.py",),
    ),
    Break(
        "what a crash left aside goes unseen",
        1,
        "dvtool/workspace/files.py",
        "        if is_expendable(name, folder):\n",
        "        if True:\n",
        ("tests/unit/workspace/test_last_look.py",),
    ),
    Break(
        "a manifest is written whatever is there by now",
        1,
        "dvtool/project/parts.py",
        "        self.workspace.write_bytes("
        "target + SUFFIX, text, believed=text_there(instead_of))\n",
        "        self.workspace.write_bytes(target + SUFFIX, text, believed=None)\n",
        ("tests/cli/test_meanwhile.py",),
    ),
    Break(
        "add undoes what a pull brought meanwhile",
        1,
        "dvtool/verbs/add/publish.py",
        "    merged = built if now == read else "
        "merge_meanwhile(project, target, read, built, now)\n",
        "    merged = built\n",
        ("tests/cli/test_meanwhile.py",),
    ),
    Break(
        "a file that checkout wrote is not older than an edit of it",
        1,
        "dvtool/workspace/new_file.py",
        "        os.utime(fd, ns=(file_stat.st_atime_ns, file_stat.st_mtime_ns - 1))\n",
        "        return file_stat\n",
        ("tests/unit/workspace/test_files.py",),
    ),
    Break(
        "a time that a disk did not take is believed",
        1,
        "dvtool/workspace/new_file.py",
        "    return settled if settled.st_mtime_ns < file_stat.st_mtime_ns else None\n",
        "    return settled\n",
        ("tests/unit/workspace/test_files.py",),
    ),
    Break(
        "stamps are compared with the system's clock",
        1,
        "dvtool/workspace/files.py",
        "                    return os.fstat(fd).st_mtime_ns\n",
        "                    return time.time_ns()\n",
        ("tests/unit/workspace/test_files.py",),
    ),
    Break(
        "a file that is mapped for writing is taken for one that nobody can write",
        1,
        "dvtool/system/writeback.py",
        " no leases there\n        return False\n",
        " no leases there\n        return True\n",
        ("tests/unit/system/test_writeback.py",),
    ),
    Break(
        "bytes that were read after a lease was taken away are believed",
        1,
        "dvtool/system/writeback.py",
        "            and time.monotonic() - given_s < _LEASE_TRUSTED_S\n",
        "",
        ("tests/unit/system/test_writeback.py",),
    ),
    Break(
        "a lease is believed where the system maps another inode",
        1,
        "dvtool/system/writeback.py",
        "            and _file_systems().get(stats.st_dev) in _LEASED\n",
        "",
        ("tests/unit/system/test_writeback.py",),
    ),
    Break(
        "a small file that has grown while it was read is believed",
        2,
        "dvtool/system/writeback.py",
        "            len(data) == stats.st_size <= size_max\n",
        "            len(data) <= size_max\n",
        ("tests/unit/system/test_writeback.py",),
    ),
    Break(
        "a file that could not be read without a look is passed over",
        2,
        "dvtool/jobs/small_files.py",
        "        if read is None:\n            left.append(number)\n",
        "        if read is None:\n",
        ("tests/unit/jobs/test_small_files.py",),
    ),
    Break(
        "dirty pages of a file hide what is written to it later",
        1,
        "dvtool/jobs/ingest.py",
        "        show_mapped_writes(fd, before.st_dev)\n",
        "",
        ("tests/unit/system/test_writeback.py",),
    ),
    Break(
        "--force replaces without saving",
        1,
        "dvtool/verbs/checkout/plan.py",
        "    saved = save_files(project, [*unsaved, *unstored])\n",
        "    saved = save_files(project, unstored)\n",
        ("tests/cli/test_checkout.py",),
    ),
    Break(
        "what dvtool put there and the store lacks is replaced without saving",
        1,
        "dvtool/verbs/checkout/plan.py",
        "    saved = save_files(project, [*unsaved, *unstored])\n",
        "    saved = save_files(project, unsaved)\n",
        (
            "tests/cli/test_base.py::test_pull_stores_what_it_replaces_and_does_not_call_it_changed",
        ),
    ),
    Break(
        "drop frees what an outdated file needs of the store",
        1,
        "dvtool/verbs/drop.py",
        "            needed.update(e.digest for p in plans for e in p.outdated.values()"
        " if e and e.is_file)\n",
        "",
        (
            "tests/cli/test_base.py::test_drop_keeps_all_chunks_of_what_was_never_pushed",
        ),
    ),
    Break(
        "drop removes outdated files that the store lacks",
        1,
        "dvtool/verbs/drop.py",
        "    plan.unstored = [path for path, digest in files.items() if digest in lacking]\n",
        "",
        (
            "tests/cli/test_base.py::test_drop_frees_no_outdated_file_that_the_store_lacks",
        ),
    ),
    Break(
        "rm removes edits of what the manifest has no more",
        1,
        "dvtool/verbs/edit/remove.py",
        '    return [path for path in here if path in entries or standing[path] == "outdated"]\n',
        "    return here\n",
        (
            "tests/cli/test_base.py::test_rm_data_keeps_an_edit_of_what_the_manifest_has_no_more",
        ),
    ),
    Break(
        "rm of a part forgets what else is outdated",
        7,
        "dvtool/verbs/edit/remove.py",
        "        record_part(project, selection.target, built.manifest, entries.__contains__)\n",
        "        record_part(project, selection.target, built.manifest, selection.matches)\n",
        (
            "tests/cli/test_base.py::test_rm_of_a_part_leaves_the_rest_outdated",
        ),
    ),
    Break(
        "drop calls outdated files changed",
        7,
        "dvtool/verbs/drop.py",
        '    plan.outdated = {path: now[path] for path in standing if standing[path] == "outdated"}'
        "\n",
        "    plan.outdated = {}\n",
        (
            "tests/cli/test_base.py::test_drop_takes_what_is_outdated_and_keeps_its_content",
        ),
    ),
    Break(
        "the statcache is believed of files stamped as they were read",
        1,
        "dvtool/workspace/statcache.py",
        "        -1 if racy or not kept else file_stat.st_size,\n",
        "        file_stat.st_size,\n",
        ("tests/unit/workspace/test_statcache.py",),
    ),
    Break(
        "files read in columns are believed though they were stamped as they were read",
        7,
        "dvtool/workspace/read_files.py",
        "max(column) < settled_ns",
        "max(column) < read_at_ns * 2",
        ("tests/unit/workspace/test_read_files.py",),
    ),
    Break(
        "a target read in columns loses what is no file",
        1,
        "dvtool/verbs/add/store.py",
        "alone = scan.plain and not stored.left",
        "alone = not stored.left",
        ("tests/unit/jobs/test_small_files.py",),
    ),
    Break(
        "drop frees what the remote does not prove",
        1,
        "dvtool/verbs/drop.py",
        "    if lost:\n        raise UnsavedError(\n            f\"{remote.url} does not say",
        "    if False:\n        raise UnsavedError(\n            f\"{remote.url} does not say",
        ("tests/cli/test_drop.py",),
    ),
    Break(
        "drop frees against sizes",
        1,
        "dvtool/verbs/drop.py",
        "            inspection.read(project.progress)\n",
        "",
        ("tests/cli/test_drop.py::test_drop_frees_nothing_that_rotted_on_the_remote",),
    ),
    Break(
        "gc of the store frees against sizes",
        1,
        "dvtool/verbs/gc/held.py",
        "        return not self.sure.issuperset(going)\n",
        "        return False\n",
        ("tests/cli/test_gc.py::test_gc_frees_nothing_that_rotted_on_the_remote",),
    ),
    Break(
        "a size counts as a statement of the bytes",
        1,
        "dvtool/remotes/evidence.py",
        "        if info.md5 is not None\n        and (info.size, info.md5) == "
        "(seen[info.key].size, seen[info.key].md5)\n",
        "        if info.size == seen[info.key].size\n",
        ("tests/unit/remotes/test_evidence.py",),
    ),
    Break(
        "chunks are read back in any order",
        1,
        "dvtool/remotes/evidence.py",
        "                if not broken and whole.digest() == part.content:\n",
        "                if not broken:\n",
        ("tests/unit/remotes/test_evidence.py",),
    ),
    Break(
        "gc of a remote gives up what this clone never saw",
        1,
        "dvtool/verbs/gc/bury.py",
        "        manifest for manifest in old if expiry is not None and manifest.manifest in "
        "expiry.seen\n",
        "        manifest for manifest in old if expiry is not None\n",
        ("tests/unit/verbs/gc/test_bury.py::test_expiry_leaves_what_this_clone_never_saw",),
    ),
    Break(
        "gc of a remote removes what another clone gave up",
        1,
        "dvtool/verbs/gc/sweep.py",
        "        given_up = (given_up & expiry.seen) - expiry.needed\n",
        "        given_up -= expiry.needed\n",
        ("tests/unit/verbs/gc/test_sweep.py",),
    ),
    Break(
        "freeing forgets the other clones of a store",
        1,
        "dvtool/project/neighbours.py",
        "                yield from versions(structs.replace(project, git=git), FOR_NEIGHBOURS)\n",
        "                yield from ()\n",
        ("tests/cli/test_shared_store.py::test_what_another_clone_needs_stays",),
    ),
    Break(
        "a clone that cannot be read needs nothing",
        1,
        "dvtool/project/neighbours.py",
        '            gone = f" If it is',
        '            continue\n            gone = f" If it is',
        ("tests/cli/test_shared_store.py::"
         "test_nothing_goes_while_a_clone_cannot_be_read",),
    ),
    Break(
        "a clone that uses a store leaves no note",
        1,
        "dvtool/store/local.py",
        "                clones.register(self.path, self._clone)\n            self._database",
        "                pass\n            self._database",
        ("tests/cli/test_shared_store.py::test_a_clone_that_only_reads_counts_too",),
    ),
    Break(
        "gc of a shared store does not wait for those at work",
        1,
        "dvtool/verbs/gc/local.py",
        "project.store.used(alone=True)",
        "project.store.used()",
        ("tests/cli/test_shared_store.py::test_a_clone_at_work_keeps_others_from_freeing",),
    ),
    Break(
        "gc of the store forgets reflogs",
        1,
        "dvtool/git/manifests.py",
        'self._history_manifests("--all", "--reflog", "--stdin", stdin=stdin)',
        'self._history_manifests("--all", "--stdin", stdin=stdin)',
        ("tests/cli/test_gc.py::test_gc_keeps_what_can_still_be_asked_for[reflog]",),
    ),
    Break(
        "gc of the store forgets stashes",
        1,
        "dvtool/git/manifests.py",
        'self._history_manifests("--all", "--reflog", "--stdin", stdin=stdin)',
        'self._history_manifests("--exclude=refs/stash", "--all", "--stdin", stdin=stdin)',
        ("tests/cli/test_gc.py::test_gc_keeps_what_can_still_be_asked_for[stash]",),
    ),
    Break(
        "gc of the store forgets other worktrees",
        1,
        "dvtool/project/history.py",
        "    for git_dir, top in git.worktree_git_dirs().items():\n",
        "    for git_dir, top in list(git.worktree_git_dirs().items())[:1]:\n",
        ("tests/cli/test_gc.py::test_gc_keeps_what_can_still_be_asked_for[other worktree]",),
    ),
    Break(
        "gc of the store does not look again before it removes",
        1,
        "dvtool/verbs/gc/local.py",
        "            since = chunks_needed_by(project, fresh, complete=False)\n",
        "            since = NeededChunks()\n",
        ("tests/cli/test_gc.py::test_an_add_at_any_moment_of_a_gc_loses_nothing[plan]",),
    ),
    Break(
        "a repair deletes the damaged pack",
        1,
        "dvtool/store/mending.py",
        "            places[check.digest] = set_aside(store, path)\n",
        "            places[check.digest] = path\n",
        ("tests/cli/test_fsck.py::test_what_was_damaged_is_set_aside_and_never_deleted",),
    ),
    Break(
        "gc plans by this repository's roots only",
        1,
        "dvtool/verbs/gc/bury.py",
        "    stay = [root for root in surveyed.roots.values() if root not in replaced]\n",
        "    stay = [r for r in surveyed.roots.values() if r.repo == repo and r not in replaced]\n",
        ("tests/unit/verbs/gc/test_bury.py",),
    ),
    Break(
        "gc removes by one repository's roots only",
        1,
        "dvtool/verbs/gc/sweep.py",
        "    stay = [root for key, root in surveyed.roots.items() if key not in roots]\n",
        "    stay = [\n"
        "        root\n"
        "        for key, root in surveyed.roots.items()\n"
        "        if key not in roots and root.repo == grave.repo\n"
        "    ]\n",
        ("tests/unit/verbs/gc/test_sweep.py",),
    ),
    Break(
        "gc sweeps by roots that it read before its mark",
        1,
        "dvtool/verbs/gc/sweep.py",
        "        mark = tombstones.begin_sweep(grave.name)\n"
        "        try:\n"
        "            look = tombstones.look()\n"
        "            now_s = look.now_s(mark)\n"
        "            info = look.tombstones.get(grave.name)\n"
        "            if info is None or "
        "age_s(info, grave.tombstone.created, now_s) < rule.grace_s:\n"
        "                return None\n"
        "            surveyed = _survey_for(remote, tombstones.claims(look, now_s), "
        "grave.tombstone, rule)\n",
        "        look = tombstones.look()\n"
        "        now_s = time.time()\n"
        "        surveyed = _survey_for(remote, tombstones.claims(look, now_s), "
        "grave.tombstone, rule)\n"
        "        mark = tombstones.begin_sweep(grave.name)\n"
        "        try:\n"
        "            info = look.tombstones.get(grave.name)\n"
        "            if info is None or "
        "age_s(info, grave.tombstone.created, now_s) < rule.grace_s:\n"
        "                return None\n",
        ("tests/model/test_real_code.py::test_push_of_what_is_being_swept",),
    ),
    Break(
        "gc heeds no claims",
        1,
        "dvtool/verbs/gc/sweep.py",
        "_survey_for(remote, tombstones.claims(look, now_s), grave.tombstone, rule)",
        "_survey_for(remote, [], grave.tombstone, rule)",
        ("tests/model/test_real_code.py::test_push_of_what_is_being_swept",),
    ),
    Break(
        "gc removes although roots cannot be read",
        1,
        "dvtool/remotes/survey.py",
        "    if result.faults:\n        raise CorruptError(\n",
        "    if False:\n        raise CorruptError(\n",
        ("tests/s3/test_gc.py::test_a_remote_that_is_not_whole_is_left_alone",),
    ),
    Break(
        "gc goes by the clock of whoever wrote a tombstone",
        1,
        "dvtool/remotes/tombstones.py",
        "    return said if info.modified_s is None else min(said, now_s - info.modified_s)\n",
        "    return said\n",
        ("tests/unit/verbs/gc/test_remote.py",),
    ),
    Break(
        "push writes no claim",
        1,
        "dvtool/verbs/push/upload.py",
        "        with self.tombstones.claimed(shards=self.planning.shards.keys(), packs=packs):\n",
        "        with contextlib.nullcontext():\n",
        ("tests/model/test_real_code.py::test_push_of_what_is_being_swept",),
    ),
    Break(
        "push does not look again once it has claimed",
        1,
        "dvtool/verbs/push/upload.py",
        "            if not self._still_there(packs, whole):\n",
        "            if False:\n",
        ("tests/model/test_real_code.py::test_push_of_what_is_being_swept",),
    ),
    # --- nothing unverified is believed ---------------------------------------------------
    Break(
        "a chunk is read unchecked",
        2,
        "dvtool/format/pack.py",
        "    if len(view) != size or digest_of(view) != digest:\n",
        "    if len(view) != size:\n",
        ("tests/unit/store/test_reader.py",),
    ),
    Break(
        "a file of several chunks is read unchecked",
        2,
        "dvtool/store/reader.py",
        "        if whole.digest() != digest:\n            self._name_damage(digest)\n",
        "        whole.digest()\n",
        ("tests/unit/store/test_reader.py",),
    ),
    Break(
        "the guards of frames are not checked",
        2,
        "dvtool/format/pack.py",
        "        if len(stored) != size or guard_of(stored) != guard:\n",
        "        if len(stored) != size:\n",
        ("tests/unit/format/test_pack.py::test_a_frame_that_is_not_what_its_guard_says_is_refused",),
    ),
    Break(
        "a fetch that lacked a pack goes by the same lists again",
        1,
        "dvtool/verbs/fetch/download.py",
        "            self.lists.keep_only(())  # the next round is to read them again\n",
        "",
        (
            "tests/cli/test_wrong_places.py"
            "::test_a_pack_moved_after_the_lists_were_read_is_taken_from_its_new_place",
        ),
    ),
    Break(
        "a fetched pack is not checked against its id",
        2,
        "dvtool/verbs/fetch/whole_packs.py",
        "        if whole.digest() != pack.digest:\n",
        "        if False:\n",
        ("tests/s3/test_transfers.py::test_a_pack_under_the_name_of_another_is_not_kept",),
    ),
    Break(
        "an export removes what a killed checkout moved aside",
        1,
        "dvtool/verbs/export/folder.py",
        "filter(is_of_export, os.listdir(inner))",
        'filter(lambda name: name.startswith(".dv-tmp-"), os.listdir(inner))',
        ("tests/cli/test_export.py::test_what_a_killed_export_left_goes",),
    ),
    Break(
        "an MD5 is noted that not all answers stated",
        1,
        "dvtool/verbs/fetch/whole_packs.py",
        "self._stated = md5 if self._answers == 0 or md5 == self._stated else None\n",
        "self._stated = md5\n",
        (
            "tests/unit/verbs/fetch/test_whole_packs.py"
            "::test_an_md5_is_noted_that_every_answer_stated",
        ),
    ),
    Break(
        "an MD5 is noted that the store stated of other bytes",
        1,
        "dvtool/verbs/fetch/whole_packs.py",
        "        return self._stated if self._stated == self._own.digest() else None\n",
        "        return self._stated\n",
        (
            "tests/unit/verbs/fetch/test_whole_packs.py"
            "::test_an_md5_is_noted_that_every_answer_stated",
        ),
    ),
    Break(
        "the ETag of what is encrypted with a key is noted as its MD5",
        1,
        "dvtool/remotes/transports/s3/backend.py",
        "sink.stated(None if is_encrypted(answer) else md5_of_etag(answer.get(\"ETag\")))",
        "sink.stated(md5_of_etag(answer.get(\"ETag\")))",
        ("tests/s3/test_receive.py::test_what_is_encrypted_with_another_key_has_no_md5",),
    ),
    Break(
        "a recipe from elsewhere is believed untried",
        2,
        "dvtool/store/local.py",
        "                    if sum(map(len, contents.read(recipe.digest))) == recipe.size:\n"
        "                        proven.append(recipe)\n",
        "                    proven.append(recipe)\n",
        ("tests/unit/store/test_local.py",),
    ),
    Break(
        "a shard of another hash is taken",
        2,
        "dvtool/format/manifest.py",
        "    if digest_of(text) != digest:\n",
        "    if False:\n",
        ("tests/unit/format/test_manifest.py::test_a_shard_must_have_its_hash",),
    ),
    Break(
        "a root of another hash is taken",
        2,
        "dvtool/remotes/remote.py",
        "        if digest_of(text).hex() != name:\n",
        "        if False:\n",
        ("tests/unit/verbs/gc/test_remote.py",),
    ),
    Break(
        "a path may hold ..",
        2,
        "dvtool/format/paths.py",
        '        if component in ("", ".", ".."):\n',
        '        if component in ("", "."):\n',
        ("tests/unit/format/test_manifest.py::test_a_path_that_could_lead_outside_is_refused",),
    ),
    Break(
        "a path may lead into .git",
        2,
        "dvtool/format/paths.py",
        '        if plain in (".git", "git~1"):\n',
        "        if False:\n",
        ("tests/unit/format/test_manifest.py::test_a_path_that_could_lead_outside_is_refused",),
    ),
    Break(
        "a symlink may lead out of its target",
        2,
        "dvtool/format/paths.py",
        '    if resolved == ".." or resolved.startswith("../"):\n',
        "    if False:\n",
        ("tests/unit/format/test_manifest.py::test_a_symlink_that_leads_outside_is_refused",),
    ),
    Break(
        "a symlink in the workspace is followed on writing",
        2,
        "dvtool/workspace/held_folders.py",
        "        try:\n            return os.open(name, FOLDER_FLAGS, dir_fd=above)\n",
        "        try:\n"
        "            return os.open(name, FOLDER_FLAGS & ~os.O_NOFOLLOW, dir_fd=above)\n",
        ("tests/unit/workspace/test_files.py",),
    ),
    Break(
        "a link is followed although it leads elsewhere than when it was added",
        2,
        "dvtool/workspace/opener.py",
        "    if os.path.realpath(link_path) != folder:\n",
        "    folder = os.path.realpath(link_path)\n    if False:\n",
        ("tests/cli/test_links.py",),
    ),
    Break(
        "a symlink to a folder is followed on reading",
        2,
        "dvtool/workspace/opener.py",
        "            return os.open(name, FOLDER_FLAGS, dir_fd=fd)\n",
        "            return os.open(name, FOLDER_FLAGS & ~NOFOLLOW, dir_fd=fd)\n",
        ("tests/unit/workspace/test_opener.py",),
    ),
    Break(
        "a symlink to a file is followed on reading",
        2,
        "dvtool/workspace/opener.py",
        "FILE_FLAGS = READ_FLAGS | NOFOLLOW\n",
        "FILE_FLAGS = READ_FLAGS\n",
        ("tests/unit/workspace/test_opener.py",),
    ),
    Break(
        "the mode of what a link in a shared folder leads to is changed",
        2,
        "dvtool/system/atomic.py",
        '    | getattr(os, "O_NOFOLLOW", 0)\n',
        "",
        ("tests/unit/system/test_atomic.py",),
    ),
    Break(
        "a symlink in a folder remote is followed",
        2,
        "dvtool/remotes/transports/local/backend.py",
        "os.open(name, _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=folder)",
        "os.open(name, _FOLDER_FLAGS, dir_fd=folder)",
        ("tests/unit/remotes/transports/local/test_backend.py",),
    ),
    Break(
        "a profile is taken from .dvconfig",
        2,
        "dvtool/project/sources.py",
        "    elif not key.committed:\n",
        "    elif False:\n",
        ("tests/unit/project/test_sources.py::test_local_keys_are_refused_in_the_committed_file",),
    ),
    Break(
        "credentials in .dvconfig are let pass",
        2,
        "dvtool/project/sources.py",
        '        if re.search(_CREDENTIAL, field.replace("-", "").replace("_", "")):\n',
        "        if False:\n",
        ("tests/unit/project/test_sources.py::test_credentials_are_refused_in_the_committed_file",),
    ),
    Break(
        "a redirection to another host is followed",
        2,
        "dvtool/remotes/transports/s3/guard.py",
        "        if not allowed:\n",
        "        if False:\n",
        ("tests/s3/test_hostile.py::test_a_redirection_elsewhere_is_not_followed",),
    ),
    # --- nothing of a repository takes effect by looking at it ------------------------------
    Break(
        "an address of .dvconfig is used without being trusted",
        8,
        "dvtool/project/settings.py",
        "        if not self._approvals.trusts(chosen_remote):\n",
        "        if False:\n",
        ("tests/cli/test_trust.py::"
         "test_looking_at_a_branch_sends_no_request_to_an_address_of_its_file",),
    ),
    Break(
        "a hook's push is a first use",
        8,
        "dvtool/hooks/service.py",
        "        return commits.push_refs(self._project, self._settings, new, old)\n",
        "        self._settings.trust_first_use()\n"
        "        return commits.push_refs(self._project, self._settings, new, old)\n",
        ("tests/cli/test_trust.py::test_a_hook_does_not_push_to_an_address_that_a_branch_chose",),
    ),
    Break(
        "there is a first use after the first",
        8,
        "dvtool/project/settings.py",
        "        if self._approvals.begun or len(committed) < len(remotes):\n",
        "        if False:\n",
        ("tests/cli/test_trust.py::test_typed_commands_refuse_an_address_that_came_later",),
    ),
    Break(
        "an endpoint that .dvconfig gives up is no change",
        8,
        "dvtool/project/approvals.py",
        '_FOREIGN = (COMMITTED_FILE, "default")\n',
        "_FOREIGN = (COMMITTED_FILE,)\n",
        ("tests/cli/test_trust.py::test_an_address_that_changed_is_refused_until_it_is_trusted",),
    ),
    Break(
        "what a branch left is trusted along with what is typed",
        8,
        "dvtool/project/settings.py",
        "        if trusted or not stays:\n",
        "        if True:\n",
        ("tests/cli/test_trust.py::test_what_was_not_typed_is_not_trusted_along_with_it",),
    ),
    Break(
        "an endpoint in the clear is trusted on first use",
        8,
        "dvtool/project/settings.py",
        "        first = [remote for remote in committed "
        "if not approvals.is_in_the_clear(remote)]\n",
        "        first = committed\n",
        ("tests/cli/test_trust.py::test_an_endpoint_in_the_clear_is_no_first_use",),
    ),
    Break(
        "post-index-change looks at what has a record alone",
        7,
        "dvtool/hooks/scripts.py",
        '    [ "$1" = 1 ] || ! is_settled || exit 0\n',
        "    ! is_settled || exit 0\n",
        (
            "tests/cli/test_base.py::test_a_target_that_git_brings_gets_its_data",
        ),
    ),
    Break(
        "hooks heed PYTHONPATH",
        8,
        "dvtool/hooks/scripts.py",
        '        "$python" -I -c "$start"',
        '        "$python" -P -c "$start"',
        ("tests/cli/test_isolated.py::"
         "test_hooks_and_drivers_import_and_start_nothing_of_the_worktree[PYTHONPATH-here]",),
    ),
    Break(
        "the drivers heed PYTHONPATH",
        8,
        "dvtool/hooks/interpreter.py",
        '        return "-I"\n',
        '        return "-P"\n',
        ("tests/cli/test_isolated.py::"
         "test_hooks_and_drivers_import_and_start_nothing_of_the_worktree[PYTHONPATH-here]",),
    ),
    Break(
        "workers heed PYTHONPATH",
        8,
        "dvtool/system/workers.py",
        '        flags = ["-I", ',
        '        flags = ["-P", ',
        ("tests/unit/system/test_workers.py::"
         "test_a_worker_that_begins_anew_imports_nothing_of_the_repository",),
    ),
    Break(
        "a program of the current folder is started",
        8,
        "dvtool/system/programs.py",
        "    return os.pathsep.join(folder for folder in folders if os.path.isabs(folder))\n",
        "    return os.pathsep.join(folder or '.' for folder in folders)\n",
        ("tests/cli/test_isolated.py::"
         "test_a_command_starts_no_program_of_the_current_folder[PATH-here-first]",),
    ),
    Break(
        "a bare repository among files is used",
        8,
        "dvtool/git/process.py",
        "    if around.status == 0:\n",
        "    if False:\n",
        ("tests/cli/test_isolated.py::"
         "test_a_bare_repository_among_the_files_of_another_is_refused",),
    ),
    # --- "pushed" means proven ------------------------------------------------------------
    Break(
        "push does not see that something old is gone",
        3,
        "dvtool/remotes/proof.py",
        "    gone = known.keys_until(seen.until) - objects.keys()\n",
        "    gone: set[str] = set()\n",
        ("tests/cli/test_lost_remote.py::test_a_lost_pack_of_an_old_version_is_sent_again",),
    ),
    Break(
        "push makes an empty place a new remote",
        3,
        "dvtool/remotes/remote.py",
        "            if self.expected_id not in (None, mark.id if mark else None):\n",
        "            if False:\n",
        ("tests/cli/test_lost_remote.py::"
         "test_an_empty_folder_in_the_remotes_place_is_refused",),
    ),
    Break(
        "push believes what it knew of the remote",
        3,
        "dvtool/remotes/proof.py",
        "    sound = remote.confirmed(expected.values(), seen)\n    known.add_objects(",
        "    sound = dict(expected)\n    known.add_objects(",
        ("tests/s3/test_transfers.py::TestProof::"
         "test_what_changed_behind_our_back_is_uploaded_again[rclone-packs/-delete]",),
    ),
    Break(
        "push believes sizes alone where an MD5 is known",
        3,
        "dvtool/remotes/remote.py",
        "                differs = None not in (info.md5, answer.md5) and info.md5 != answer.md5\n",
        "                differs = False\n",
        ("tests/s3/test_transfers.py::TestProof::"
         "test_a_store_that_keeps_other_bytes_is_found_out",),
    ),
    Break(
        "push does not see that its packs arrived",
        3,
        "dvtool/verbs/push/upload.py",
        "        lost = set(packs) - confirm_packs(self.remote, known, packs, infos)\n",
        "        lost: set[Digest] = set()\n",
        ("tests/s3/test_transfers.py::TestProof::"
         "test_a_store_that_loses_what_it_took_is_found_out",),
    ),
    Break(
        "push does not see that shards and roots arrived",
        3,
        "dvtool/verbs/push/upload.py",
        "            self._refuse_lost([info.key for info in expected if info.key not in sound])\n",
        "            self._refuse_lost([])\n",
        ("tests/s3/test_transfers.py::TestProof::"
         "test_a_store_that_loses_what_it_took_is_found_out",),
    ),
    Break(
        "push sends a damaged pack",
        3,
        "dvtool/verbs/push/upload.py",
        "            if digest_of_file(file) != upload.pack.digest:\n",
        "            if False:\n",
        ("tests/cli/test_push.py::test_push_sends_no_damaged_pack",),
    ),
    Break(
        "push copies the stored text of a list without a look at it",
        3,
        "dvtool/format/locations.py",
        "    parts = _parts(data, name)\n    _check_text(parts, digest, name)\n    stored = zst",
        "    parts = _parts(data, name)\n    stored = zst",
        ("tests/cli/test_push.py::test_push_publishes_no_damaged_list_of_files",),
    ),
    Break(
        "a push relies on rows of the index whose pack is not in it",
        3,
        "dvtool/store/place_columns.py",
        "            if at is not None and number in packs:\n",
        "            if at is not None:\n",
        ("tests/unit/store/test_place_columns.py::"
         "test_rows_of_a_pack_that_the_index_does_not_have_do_not_count",),
    ),
    Break(
        "a checkout in runs writes files before a false size of a later one is seen",
        7,
        "dvtool/verbs/checkout/write.py",
        "    if doubtful:\n",
        "    if False:\n",
        ("tests/cli/test_groups.py::test_no_run_is_written_if_a_size_is_false",),
    ),
    Break(
        "a checkout reads from a pack that has the number of one that went meanwhile",
        7,
        "dvtool/store/reader.py",
        "for number, pack in columns.packs.items() if packs.get(number) == pack}\n",
        "for number, pack in columns.packs.items() if number in packs}\n",
        ("tests/unit/store/test_reader.py::"
         "test_what_was_looked_up_long_before_is_found_where_it_is_now",),
    ),
    Break(
        "a push says that chunks are in packs which the remote is not known to have",
        3,
        "dvtool/verbs/push/contents.py",
        "        if not packs.keys() >= numbers:\n            return None\n",
        "        numbers &= packs.keys()\n",
        ("tests/cli/test_push.py::test_push_copies_frames_that_are_needed_whole",),
    ),
    Break(
        "push copies frames of a damaged pack",
        3,
        "dvtool/verbs/push/packs.py",
        "    if not frames or digest_of_file(file) != info.digest:\n",
        "    if not frames:\n",
        ("tests/cli/test_push.py::test_push_copies_no_frame_of_a_damaged_pack",),
    ),
    Break(
        "push publishes the root before the shards",
        3,
        "dvtool/verbs/push/upload.py",
        "            if plan.lacking:\n"
        "                self._publish_shards(plan, located)\n"
        "            if time.monotonic() - started > CLAIM_USED_S:\n"
        "                return False\n"
        "            self._publish_root(self.planning.unrooted(plan.proven.roots))\n",
        "            self._publish_root(self.planning.unrooted(plan.proven.roots))\n"
        "            if plan.lacking:\n"
        "                self._publish_shards(plan, located)\n",
        ("tests/crash/test_order.py::test_what_is_referred_to_comes_first"
         "[shards before roots on the remote]",),
    ),
    # --- never silently another version ---------------------------------------------------
    Break(
        "status does not ask the base",
        7,
        "dvtool/verbs/status.py",
        "    if drift.none:\n",
        "    if True:\n",
        ("tests/cli/test_base.py::test_what_a_pull_of_git_left_behind_is_outdated",),
    ),
    Break(
        "add records what is outdated",
        7,
        "dvtool/verbs/add/publish.py",
        "        leave(scan, result.outdated)\n",
        "        pass\n",
        ("tests/cli/test_base.py::test_add_leaves_what_is_outdated_and_says_so",),
    ),
    Break(
        "add takes what both sides changed for an edit",
        7,
        "dvtool/verbs/add/base.py",
        "    if both:\n",
        "    if False:\n",
        ("tests/cli/test_base.py::test_a_file_changed_here_and_in_the_manifest_conflicts",),
    ),
    Break(
        "add does not record the base",
        7,
        "dvtool/verbs/add/publish.py",
        "    record_added(project, request, built.manifest, found)\n",
        "",
        ("tests/cli/test_base.py::test_drop_keeps_all_chunks_of_what_was_never_pushed",),
    ),
    Break(
        "checkout does not record the base",
        7,
        "dvtool/verbs/checkout/restore.py",
        "        record_base(project, selection.target, part.manifest)\n",
        "        pass\n",
        ("tests/cli/test_base.py::test_a_file_changed_here_and_in_the_manifest_conflicts",),
    ),
    Break(
        "without a record all counts as edited",
        7,
        "dvtool/project/base.py",
        "    earlier = _as_earlier(project, drift.target, files)\n",
        "    earlier = set[str]()\n",
        ("tests/cli/test_base.py::test_without_a_record_history_is_asked",),
    ),
    Break(
        "a busy file holds its target back",
        7,
        "dvtool/verbs/checkout/follow.py",
        " if path in want], tolerant=True)\n",
        " if path in want])\n",
        ("tests/cli/test_base.py::test_a_file_that_is_written_to_keeps_itself_back",),
    ),
    Break(
        "a sparse checkout changes the data id",
        7,
        "dvtool/project/parts.py",
        "            return self.manifests_here() | self.manifests_left_out()\n",
        "            return self.manifests_here()\n",
        ("tests/cli/test_base.py::test_sparse_checkout",),
    ),
    Break(
        "a conflict that was staged may be committed",
        7,
        "dvtool/hooks/commit_check.py",
        "    result.conflicted = open_conflicts(project)\n",
        "",
        ("tests/cli/test_conflict_record.py::"
         "test_a_commit_of_all_is_refused_until_it_is_resolved",),
    ),
    Break(
        "a conflict is told after its merge was aborted",
        7,
        "dvtool/verbs/resolve/records.py",
        "        if record is not None and _is_of_now(project, record):\n",
        "        if record is not None:\n",
        ("tests/cli/test_conflict_record.py::test_a_cherry_pick",),
    ),
)  # fmt: skip


def main(parts: Sequence[str]) -> int:
    """Try the breaks whose names hold one of `parts`, all if none is given."""
    chosen = [one for one in BREAKS if not parts or any(part in one.name for part in parts)]
    with tempfile.TemporaryDirectory(prefix="dv-mutants-") as scratch:
        copy = Path(scratch) / "project"
        shutil.copytree(PROJECT, copy, ignore=LEFT_OUT)
        _make_environment(copy)
        texts = [_broken(copy, one) for one in chosen]
        code, said = _run(copy, sorted({test for one in chosen for test in one.tests}))
        if code != PASSED:
            print(f"{said}\nthese tests do not pass as it is, so they can notice nothing")
            return FAILED
        print("| promise | broken on purpose | noticed by | s |\n|---|---|---|---|", flush=True)
        slipped = 0
        for number, (one, text) in enumerate(zip(chosen, texts, strict=True), start=1):
            started = time.monotonic()
            test = _noticed(copy, one, text, number)
            slipped += test is None
            took_s = time.monotonic() - started
            by = f"`{test}`" if test else "**SLIPPED THROUGH**"
            print(f"| {one.promise} | {one.name} | {by} | {took_s:.0f} |", flush=True)
    print(f"\n{len(chosen)} breaks, {slipped} slipped through")
    return FAILED if slipped else PASSED


def _make_environment(copy: Path) -> None:
    """Make an environment beside the copy whose `dvtool` is the copy.

    Hooks, drivers and workers are isolated, so PYTHONPATH alone would have them run the original.
    """
    venv.create(_environment(copy), symlinks=True)
    folder = next(_environment(copy).glob("lib/python*/site-packages"))
    packages = [path for path in sys.path if path.endswith("site-packages")]
    (folder / "copy.pth").write_text("\n".join([str(copy), *packages]))
    command = _environment(copy) / "bin" / "dv"
    command.write_text(f"#!{_python(copy)}\nfrom dvtool.cli import main\n\nmain()\n")
    command.chmod(0o755)


def _environment(copy: Path) -> Path:
    return copy.parent / "environment"


def _python(copy: Path) -> Path:
    return _environment(copy) / "bin" / "python"


def _broken(copy: Path, one: Break) -> str:
    """Return the text of a break's file with the break in it."""
    text = (copy / one.file).read_text()
    if text.count(one.old) != 1:
        sys.exit(f"{one.name}: {one.file} holds this {text.count(one.old)} times:\n{one.old}")
    broken = text.replace(one.old, one.new)
    compile(broken, one.file, "exec")
    return broken


def _noticed(copy: Path, one: Break, text: str, number: int) -> str | None:
    """Return the test that failed with the break in place, None if none did."""
    path = copy / one.file
    path.write_text(text)
    os.utime(path, (number, number))  # compiled files are told apart by whole seconds
    code, said = _run(copy, one.tests)
    shutil.copy2(PROJECT / one.file, path)
    if code not in (PASSED, FAILED):
        sys.exit(f"{one.name}: pytest could not judge it ({code}):\n{said}")
    words = ("FAILED ", "ERROR ")
    lines = [line.split(" ", 1)[1] for line in said.splitlines() if line.startswith(words)]
    if code == PASSED:
        return None
    return lines[0].partition(" - ")[0].replace("|", "\\|") if lines else "no summary"


def _run(copy: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Run tests of the copy up to the first failure; return pytest's exit code and what it said.

    A run without end counts as a failure: whoever waits for it notices.
    """
    command = [str(_python(copy)), "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    path = f"{_python(copy).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(copy), "COLUMNS": "500"}
    with subprocess.Popen(
        command, cwd=copy, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        try:
            said, _ = process.communicate(timeout=TIME_MAX_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return FAILED, f"FAILED did not end within {TIME_MAX_S:.0f} s"
    return process.returncode, said


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
