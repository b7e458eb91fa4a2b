"""Commands that begin a project: ``init`` and ``demo``."""

from pathlib import Path

import click

from cmw_pipeline.cli.main import main

_folder = click.Path(path_type=Path, file_okay=False)


@main.command(epilog="Example: cmw init my-project")
@click.argument("folder", type=_folder, default=Path())
def init(folder: Path) -> None:
    """Lay out a project in FOLDER, or here: parameters of all tables, and the workflow."""
    from cmw_pipeline.io.project import lay_out

    lay_out(folder)
    there = "" if folder == Path() else f"cd {folder} && "
    click.echo(f"{folder / 'params.yaml'} says what there is to make; next: {there}cmw make demo")


@main.command(epilog="Example: cmw demo")
@click.argument("folder", type=_folder, required=False)
@click.pass_context
def demo(ctx: click.Context, folder: Path | None) -> None:
    """Make the table demo: real digits with spoilt labels, on a CPU, in minutes.

    In the project of FOLDER, or in this one; where there is none, one is laid out in FOLDER, or in cmw-demo.
    The same command continues a demo that was interrupted.
    """
    from cmw_pipeline.engine.snakemake import has_workflow, run_snakemake
    from cmw_pipeline.io.project import lay_out

    folder = folder or (Path() if has_workflow(Path()) else Path("cmw-demo"))
    if not has_workflow(folder):
        lay_out(folder)
    page = Path("results", "demo.md")
    code = run_snakemake(["--", str(page)], root=folder)
    if code == 0:
        click.echo(f"\n{(folder / page).read_text()}\n{folder / page}")
    ctx.exit(code)
