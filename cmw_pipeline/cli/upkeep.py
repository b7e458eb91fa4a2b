"""Commands that look after a project: ``doctor``, ``prune``, ``check`` and ``schema``."""

import sys
from pathlib import Path

import click
from rich.filesize import decimal

from cmw_pipeline.cli.main import main, plan_of
from cmw_pipeline.config import Plan, load


@main.command()
@click.option("--profile", help="Look at what a profile of the cluster needs, in place of all else: slurm")
@click.pass_context
def doctor(ctx: click.Context, profile: str | None) -> None:
    """Look at the machine and the project, and say what to do about each problem."""
    from cmw_pipeline.data.outside import lineage
    from cmw_pipeline.runtime.cluster import examine_profile
    from cmw_pipeline.runtime.doctor import examine

    code, root = 0, Path.cwd()
    for finding in examine_profile(profile, root) if profile else examine(ctx.obj, lineage(root)):
        click.echo(f"{'ok  ' if finding.exit_code == 0 else 'BAD '} {finding.what}")
        if finding.remedy:
            click.echo(f"     -> {finding.remedy}")
        code = code or finding.exit_code
    ctx.exit(code)


@main.command()
@click.option("--yes", is_flag=True, help="Remove it; without this, only say what would go.")
@click.pass_context
def prune(ctx: click.Context, yes: bool) -> None:
    """Remove from results/ what no table and no audit of params.yaml needs, and say what that frees.

    Unfinished runs of any table keep their checkpoints. Tables, downloads and files that this package did not
    make stay.
    """
    from cmw_pipeline.io.prune import find_excess, remove_excess

    plan = Plan(load(ctx.obj))
    needed = plan.everything().values()
    excess = find_excess(needed, Path.cwd())
    for item in excess:
        click.echo(f"{decimal(item.bytes):>10}  {item.path.relative_to(Path.cwd())}")
    if yes:
        remove_excess(excess, Path.cwd())
    said = "removed" if yes else "nothing was removed yet: `cmw prune --yes` does it"
    click.echo(f"{decimal(sum(item.bytes for item in excess)):>10}  in {len(excess)} places; {said}")


@main.command()
@click.pass_context
def check(ctx: click.Context) -> None:
    """Say whether the parameters are right, and what they ask for."""
    plan = plan_of(ctx)
    for name in plan.params.tables:
        mark = "*" if name in plan.params.build else " "
        click.echo(f"{mark} {name}: {len(plan.cells(name))} cells")


@main.command()
def schema() -> None:
    """Print the JSON schema of params.yaml and params/, which editors use to complete them."""
    import json

    from cmw_pipeline.config.json_schema import file_schema

    json.dump(file_schema(), sys.stdout, indent=2)
    click.echo()
