"""The keys of the JSON that commands print, for their help.

Made by `python -m tests.json_reference` from the classes of results: change those.
"""

JSON_KEYS = {
    "add": (
        '{"schema", "targets": [{"target", "files", "bytes", "added", "modified", "removed", '
        '"stored_bytes", "outdated", "left_new", "warnings", "litter"}]}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "status": (
        '{"schema", "clean", "targets": [{"target", "manifest", "blake3", "files", "bytes", '
        '"clean", "added", "modified", "deleted", "outdated", "conflicting", "absent", '
        '"absent_bytes", "left_out", "left_out_bytes", "unpushed", "unpushed_files", '
        '"unpushed_bytes", "faults": [{"path", "problem"}], "conflicts": [{"path", "base": '
        'null or {"type", "size", "blake3", "exec", "symlink"}, "ours": null or {…}, '
        '"theirs": null or {…}}], "source", "reference"}], "sources": null or {"target", '
        '"source", "standing", "edited", "added", "modified", "removed", "problem"}}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "import": (
        '{"schema", "target", "source", "state", "files", "bytes", "read", "stored_bytes", '
        '"uploaded_bytes", "remote", "added", "modified", "removed", "written", "changed", '
        '"warnings"}',
        'With --plan: {"schema", "remote", "files", "objects", "bytes", "requests": {"put", '
        '"list", "get", "head"}, "request_cost_usd", "seconds"}',
        'With --materialise: {"schema", "targets": [{"target", "files", "bytes", "present", '
        '"lost", "problem", "changed"}]}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "import-sql": (
        '{"schema", "target", "source", "state", "files", "bytes", "read", "stored_bytes", '
        '"uploaded_bytes", "remote", "added", "modified", "removed", "written", "changed", '
        '"warnings"}',
        'With --plan: {"schema", "target", "source", "query", "columns", "rows", "warnings"}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "update": (
        '{"schema", "targets": [{"target", "source", "state", "files", "bytes", "read", '
        '"stored_bytes", "uploaded_bytes", "remote", "added", "modified", "removed", '
        '"written", "changed", "warnings"}]}',
        'With --plan: {"schema", "targets": [{"target", "source", "standing", "edited", '
        '"added", "modified", "removed", "problem"}]}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "checkout": (
        '{"schema", "targets": [{"target", "written", "written_bytes", "removed"}], "saved": '
        '[{"path", "blake3"}], "fetched": null or {"remote", "files", "bytes", '
        '"transferred_bytes", "found", "warnings", "sources"}}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "rm": (
        '{"schema", "targets": [{"target", "whole", "entries", "files"}]}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "mv": (
        '{"schema", "source", "destination"}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "resolve": (
        '{"schema", "targets": [{"target", "settled", "left", "kept", "written", '
        '"written_bytes", "removed", "unsaved", "missing", "missing_bytes"}]}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "restore": (
        '{"schema", "targets": [{"target", "written", "written_bytes", "removed"}], "saved": '
        '[{"path", "blake3"}], "fetched": null or {"remote", "files", "bytes", '
        '"transferred_bytes", "found", "warnings", "sources"}}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "sparse list": (
        '{"schema", "rules", "removed", "removed_bytes", "kept"}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "sparse set": (
        '{"schema", "rules", "removed", "removed_bytes", "kept"}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "sparse add": (
        '{"schema", "rules", "removed", "removed_bytes", "kept"}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "sparse disable": (
        '{"schema", "rules", "removed", "removed_bytes", "kept"}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "push": (
        '{"schema", "pushes": [{"remote", "manifests", "files", "packs", "bytes", '
        '"resumed_packs", "resumed_bytes", "warnings", "gone", "lost"}], "failed": '
        '[{"remote", "message", "hint", "exit_code"}], "uncommitted"}',
        'With --plan: {"schema", "plans": [{"remote", "files", "objects", "bytes", '
        '"requests": {"put", "list", "get", "head"}, "request_cost_usd", "seconds"}], '
        '"uncommitted"}',
        'With --check: {"schema", "plans": [{"remote", "files", "objects", "bytes", '
        '"requests": {"put", "list", "get", "head"}, "request_cost_usd", "seconds"}], '
        '"uncommitted"}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "fetch": (
        '{"schema", "remote", "files", "bytes", "transferred_bytes", "found", "warnings", '
        '"sources"}',
        'With --plan: {"schema", "remote", "files", "objects", "bytes", "requests": {"put", '
        '"list", "get", "head"}, "request_cost_usd", "seconds"}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "pull": (
        '{"schema", "targets": [{"target", "written", "written_bytes", "removed"}], "saved": '
        '[{"path", "blake3"}], "fetched": null or {"remote", "files", "bytes", '
        '"transferred_bytes", "found", "warnings", "sources"}}',
        'With --plan: {"schema", "remote", "files", "objects", "bytes", "requests": {"put", '
        '"list", "get", "head"}, "request_cost_usd", "seconds"}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "clone": (
        '{"schema", "targets": [{"target", "written", "written_bytes", "removed"}], "saved": '
        '[{"path", "blake3"}], "fetched": null or {"remote", "files", "bytes", '
        '"transferred_bytes", "found", "warnings", "sources"}}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "drop": (
        '{"schema", "remote", "targets": [{"target", "files", "bytes"}], "workspace_bytes", '
        '"store_bytes", "freed_bytes", "read_back_bytes", "planned"}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "gc": (
        '{"schema", "dry_run", "chunks", "chunk_bytes", "packs_rewritten", "packs_merged", '
        '"freed_bytes", "kept_unpushed_bytes", "losing", "unread", "read_back_bytes", '
        '"asked", "warnings"}',
        'With --remote: {"schema", "remote", "dry_run", "dead", "dead_bytes", "moved_packs", '
        '"moved_bytes", "roots_replaced", "expired": [{"target", "manifest"}], "unseen", '
        '"removed", "removed_bytes", "waiting": [{"keys", "due_in_s"}], "warnings"}',
        'With --undo: {"schema", "undone"}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "fsck": (
        '{"schema", "clean", "damage": [{"place", "kind", "name", "problem", "missing", '
        '"repaired", "failed", "targets", "files": [{"path", "blake3", "bytes", "copies"}], '
        '"commits", "commits_shown": [{"commit", "subject"}]}], "store": {"packs", "bytes", '
        '"shards", "recipes", "contents", "not_here", "not_here_bytes", "nowhere_known", '
        '"lists_not_here", "unindexed_packs", "to_list", "unlisted_chunks", '
        '"temporary_files", "unfinished_drops", "set_aside", "unread_manifests"}, '
        '"workspace": null or {"files", "bytes", "changed", "unreadable"}, "remote": null or '
        '{"url", "packs", "bytes", "md5_equal", "packs_read", "bytes_read", "files_made", '
        '"shards", "locations", "roots", "manifests", "not_pushed", "seed"}, "done"}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "run": (
        '{"schema", "version", "id", "state", "commit", "parent", "ref", "branch", "data_id",'
        ' "targets": [{"target", "blake3", "files", "bytes", "source", "reference"}], '
        '"command", "folder", "environment", "packages": null or {"python", "executable", '
        '"how", "distributions"}, "start", "end", "seconds", "exit_status", "problem", '
        '"reads": {"count", "root", "entries": [{"blake3", "path"}], "file"}, "out", '
        '"outputs": [{"target", "blake3", "files", "bytes"}], "reproduces", "dvtool"}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "runs list": (
        '{"schema", "runs": [{"version", "id", "state", "commit", "parent", "ref", "branch", '
        '"data_id", "targets": [{"target", "blake3", "files", "bytes", "source", '
        '"reference"}], "command", "folder", "environment", "packages": null or {"python", '
        '"executable", "how", "distributions"}, "start", "end", "seconds", "exit_status", '
        '"problem", "reads": {"count", "root", "entries": [{"blake3", "path"}], "file"}, '
        '"out", "outputs": [{"target", "blake3", "files", "bytes"}], "reproduces", '
        '"dvtool"}], "damaged"}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "runs show": (
        '{"schema", "version", "id", "state", "commit", "parent", "ref", "branch", "data_id",'
        ' "targets": [{"target", "blake3", "files", "bytes", "source", "reference"}], '
        '"command", "folder", "environment", "packages": null or {"python", "executable", '
        '"how", "distributions"}, "start", "end", "seconds", "exit_status", "problem", '
        '"reads": {"count", "root", "entries": [{"blake3", "path"}], "file"}, "out", '
        '"outputs": [{"target", "blake3", "files", "bytes"}], "reproduces", "dvtool"}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "runs reproduce": (
        '{"schema", "same", "run", "worktree", "exit_statuses", "roots", "outputs": '
        '[{"target", "before", "now", "changes": [{"change", "path", "old_path", "old": null '
        'or {"type", "size", "blake3", "exec", "symlink"}, "new": null or {…}}]}], '
        '"packages", "again": {"version", "id", "state", "commit", "parent", "ref", "branch",'
        ' "data_id", "targets": [{"target", "blake3", "files", "bytes", "source", '
        '"reference"}], "command", "folder", "environment", "packages": null or {"python", '
        '"executable", "how", "distributions"}, "start", "end", "seconds", "exit_status", '
        '"problem", "reads": {"count", "root", "entries": [{"blake3", "path"}], "file"}, '
        '"out", "outputs": [{"target", "blake3", "files", "bytes"}], "reproduces", "dvtool"}}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "check-overlap": (
        '{"schema", "overlap", "shared", "splits": [{"split", "files", "rows", "keyless"}], '
        '"pairs": [{"first", "second", "shared"}], "listed": [{"splits": [{"split", "count", '
        '"places": [{"path", "row"}]}]}]}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "diff": (
        '{"schema", "targets": [{"target", "renamed_from", "totals": {"added": {"count", '
        '"bytes"}, "modified": {…}, "removed": {…}, "renamed": {…}}, "changes": [{"change", '
        '"path", "old_path", "old": null or {"type", "size", "blake3", "exec", "symlink"}, '
        '"new": null or {…}}]}], "totals": {…}}',
        'With --stat: {"schema", "targets": [{"target", "totals": {"added": {"count", '
        '"bytes"}, "modified": {…}, "removed": {…}, "renamed": {…}}}], "totals": {…}}',
        'With --rows: {"schema", "tables": [{"path", "table", "change", "key", "old_rows", '
        '"new_rows", "added", "removed", "changed", "unchanged", "repeated_keys", "columns": '
        '[{"column", "old_type", "new_type"}], "cells", "rows": [{"change", "old_row", '
        '"new_row", "key", "cells": [{"column", "old", "new"}]}]}], "unread": [{"path", '
        '"reason"}]}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "show": (
        '{"schema", "targets": [{"target", "renamed_from", "totals": {"added": {"count", '
        '"bytes"}, "modified": {…}, "removed": {…}, "renamed": {…}}, "changes": [{"change", '
        '"path", "old_path", "old": null or {"type", "size", "blake3", "exec", "symlink"}, '
        '"new": null or {…}}]}], "totals": {…}}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "log": (
        '{"schema", "commits": [{"commit", "author", "date", "subject", "target", '
        '"renamed_from", "blake3", "files", "bytes", "added", "modified", "removed", '
        '"renamed"}]}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "ls": (
        '{"schema", "entries": [{"path", "target", "type", "size", "blake3", "exec", '
        '"symlink", "source"}], "error": null or {"message", "hint", "exit_code"}}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "export": (
        '{"schema", "commit", "files", "bytes", "kept", "left_out"}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "get": (
        '{"schema", "commit", "files", "bytes", "kept", "left_out"}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "describe": (
        '{"schema", "commit", "branch", "dirty", "code_dirty", "data_dirty", "data_id", '
        '"targets": [{"target", "blake3", "files", "bytes", "source", "reference"}]}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "serve": (
        '{"schema", "endpoint_url", "bucket", "region", "access_key", "secret_key", "revs"}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "cache show": (
        '{"schema", "path", "limit_bytes", "files", "file_bytes", "clones", "clone_bytes"}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "cache clean": (
        '{"schema", "path", "limit_bytes", "files", "file_bytes", "clones", "clone_bytes"}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "doctor": (
        '{"schema", "ok", "checks": [{"name", "state", "detail", "hint", "bytes"}]}',
        'With --remote: {"schema", "ok", "checks": [{"name", "state", "detail", "hint", '
        '"bytes"}], "features": null or {"conditional_put", "ranged_get", "content_md5", '
        '"md5_etag", "list_allowed", "delete_allowed", "latency_s", "down_bytes_per_s", '
        '"up_bytes_per_s"}}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "config": (
        '{"schema", "settings": [{"key", "value", "source"}]}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "remote list": (
        '{"schema", "remotes": [{"name", "url", "default", "source", "trusted", "options"}], '
        '"sources": [{"url", "targets", "approved"}]}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "remote copy": (
        '{"schema", "source", "destination", "manifests", "objects", "bytes", "there", "lost"}',
        'With --plan: {"schema", "remote", "files", "objects", "bytes", "requests": {"put", '
        '"list", "get", "head"}, "request_cost_usd", "seconds"}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "remote roots": (
        '{"schema", "remote", "repositories": [{"repo", "this", "roots", "manifests", '
        '"bytes", "pushed", "retired", "damaged", "targets"}]}',
        'With --retire: {"schema", "repo", "dead", "dead_bytes"}',
        "Each key is explained in docs/reference/json.md.",
    ),
    "hooks status": (
        '{"schema", "folder", "complete", "drivers", "hooks": [{"name", "state", "kept"}]}',
        "Each key is explained in docs/reference/json.md.",
    ),
}
