"""Commands about the cells of tables: ``list``, ``make`` and ``status``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cmw_pipeline.cli.main import completed, main, plan_of, resolved
from cmw_pipeline.config.plan import Plan


def _filters(function: Callable[..., None]) -> Callable[..., None]:
    for part, kind, words in (
        ("seed", int, "The seed."),
        ("recipe", str, "A recipe."),
        ("dataset", str, "A dataset."),
        ("bias", str, "A bias: asym-0.4"),
        ("method", str, "A method, by its name or its row's label: CMW-Net"),
    ):
        function = click.option(f"--{part}", type=kind, help=words)(function)
    return function


@main.command("list", epilog="Example: cmw list demo --method CMW-Net")
@click.argument("table", required=False, shell_complete=completed("list"))
@_filters
@click.pass_context
def list_(ctx: click.Context, /, table: str | None, **wanted: Any) -> None:
    """Show the tables; or the cells of one, how far each is, and the name that other commands take."""
    plan = plan_of(ctx)
    if table is None:
        for name, asked in plan.params.tables.items():
            runs = [plan.run(cell) for cell in plan.cells(name)]
            done = sum((Path.cwd() / run.manifest).is_file() for run in runs)
            click.echo(f"{name:<18} {done:>4} of {len(runs):>4} cells  {asked.title}")
        return
    _show(plan, resolved(ctx, "list", table).name, wanted)


def _show(plan: Plan, table: str, wanted: dict[str, Any]) -> None:
    from cmw_pipeline.engine.states import chosen, state

    cells = chosen(plan, table, wanted)
    width = max(len(cell.name) for cell in cells)
    for cell in cells:
        click.echo(f"{cell.name:<{width}}  {state(plan.run(cell), Path.cwd()).text}")


@main.command(epilog="Example: cmw make demo --method CMW-Net --bias asym-0.4 -- -n")
@click.argument("table", shell_complete=completed("make"))
@_filters
@click.argument("snakemake", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def make(ctx: click.Context, /, table: str, snakemake: tuple[str, ...], **wanted: Any) -> None:
    """Make a table by Snakemake, or some of its cells with all that they need.

    What stands behind -- goes to Snakemake: -n, --cores 4, --profile workflow/profiles/slurm.
    """
    from cmw_pipeline.engine.snakemake import run_snakemake
    from cmw_pipeline.engine.states import chosen

    plan, name = plan_of(ctx), resolved(ctx, "make", table).name
    some = any(value is not None for value in wanted.values())
    cells = chosen(plan, name, wanted)
    targets = [str(plan.run(cell).manifest) for cell in cells] if some else [f"results/{name}.md"]
    code = run_snakemake([*snakemake, "--", *targets], None if str(ctx.obj) == "params.yaml" else ctx.obj)
    if some and not {"-n", "--dry-run", "--dryrun"} & set(snakemake):
        _show(plan, name, wanted)
    ctx.exit(code)


@main.command()
@click.argument("table", required=False, shell_complete=completed("list"))
@click.pass_context
def status(ctx: click.Context, table: str | None) -> None:
    """Show the runs at work: epochs done, accuracy so far, time left; and what their tables still need.

    Epochs and accuracies are those of the newest checkpoint, at most about a minute old.
    """
    from cmw_pipeline import engine
    from cmw_pipeline.engine.states import state

    plan, root = plan_of(ctx), Path.cwd()
    seen = engine.Seen(plan, root)
    busy = False
    for name in [resolved(ctx, "list", table).name] if table else plan.params.tables:
        states = {cell.name: state(plan.run(cell), root) for cell in plan.cells(name)}
        open_ = {cell: found for cell, found in states.items() if found.word in ("running", "begun")}
        if not open_ and not table:
            continue
        busy = True
        for line in engine.still_to_come(name, seen):
            click.echo(line)
        for cell, found in open_.items():
            click.echo(f"  {cell}  {found.text}")
    if not busy:
        click.echo("no run is at work; `cmw list` shows what there is")
