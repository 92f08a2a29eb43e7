"""``dv import-sql``: make a Parquet file of the rows of a query."""

from __future__ import annotations

import click

from dvtool.cli.frame import Frame, command
from dvtool.cli.import_ import show_imported


@command(
    "import-sql",
    examples=(
        "dv import-sql sqlite:///lab.db points data/points.parquet",
        "dv import-sql sqlite:////srv/lab.db 'SELECT * FROM p ORDER BY id' p.parquet",
        "dv import-sql postgresql://db.example.org/lab points data/points.parquet",
    ),
    exits=(5, 6, 7, 8, 9),
    answers_json=True,
)
@click.argument("url", metavar="URL")
@click.argument("query", metavar="QUERY|TABLE")
@click.argument("out", metavar="OUT.parquet", type=click.Path())
@click.option("--no-checkout", is_flag=True, help="Write no file into the workspace.")
def import_sql(
    frame: Frame, url: str, query: str, out: str, no_checkout: bool, as_json: bool
) -> None:
    """Make a target OUT.parquet of the rows of a query, and record the query.

    The rows are read in one read-only transaction, a part at a time, and written so that the same
    rows give the same bytes: so order them (ORDER BY). A TABLE is read in the order of its primary
    key. dv update asks again.

    A password is never kept: it comes from PGPASSWORD, ~/.pgpass or a service file. The user's
    name stays in this clone. Needs dvtool's extra sql.
    """
    from dvtool import SqlRequest

    screen = frame.screen
    with frame.repo() as repo:
        frame.set_up_git(repo)
        done = repo.imports.import_sql(SqlRequest(url, query, out, not no_checkout))
        show_imported(screen, repo, done, as_json=as_json)
        if not as_json:
            screen.note("next: git commit" if done.changed else "nothing is new")
