"""``dv import-sql``: make a Parquet file of the rows of a query."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dvtool.cli.frame import Frame, command
from dvtool.cli.import_ import show_imported
from dvtool.cli.output import Screen, count_text
from dvtool.cli.plans import plan_option
from dvtool.errors import printable

if TYPE_CHECKING:
    from dvtool import SqlPlan


@command(
    "import-sql",
    examples=(
        "dv import-sql sqlite:///lab.db points data/points.parquet",
        "dv import-sql sqlite:////srv/lab.db 'SELECT * FROM p ORDER BY id' p.parquet",
        "dv import-sql duckdb:///lab.duckdb points data/points.parquet",
        "dv import-sql --plan sqlite:///lab.db points p.parquet   # columns, rows",
        "dv import-sql postgresql://db.example.org/lab points data/points.parquet",
    ),
    exits=(5, 6, 7, 8, 9),
    answers_json=True,
)
@click.argument("url", metavar="URL")
@click.argument("query", metavar="QUERY|TABLE")
@click.argument("out", metavar="OUT.parquet", type=click.Path())
@click.option("--no-checkout", is_flag=True, help="Write no file into the workspace.")
@plan_option
def import_sql(
    frame: Frame,
    url: str,
    query: str,
    out: str,
    no_checkout: bool,
    plan_only: bool,
    as_json: bool,
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
    request = SqlRequest(url, query, out, not no_checkout)
    with frame.repo() as repo:
        if plan_only:
            _show_plan(screen, repo.imports.plan_sql(request), as_json=as_json)
            return
        frame.set_up_git(repo)
        done = repo.imports.import_sql(request)
        show_imported(screen, repo, done, as_json=as_json)
        if not as_json:
            screen.note("next: git commit" if done.changed else "nothing is new")


def _show_plan(screen: Screen, plan: SqlPlan, *, as_json: bool) -> None:
    for warning in plan.warnings:
        screen.warn(f"{printable(plan.target)}: {warning}")
    if as_json:
        screen.json(plan)
        return
    rows = "rows that are not counted" if plan.rows is None else count_text(plan.rows, "row")
    screen.line(f"an import of {rows} from {printable(plan.source)}")
    screen.line(f"  query     {printable(plan.query)}")
    screen.line(f"  columns   {printable(', '.join(plan.columns))}")
    screen.note("nothing was recorded")
