"""Commands for data of one's own: ``audit`` and ``predict``."""

import json
import sys
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from cmw_pipeline.cli.main import main
from cmw_pipeline.config import Plan, load
from cmw_pipeline.config.artefact import RESULTS
from cmw_pipeline.errors import ConfigError
from cmw_pipeline.runtime.memory import check_addresses

if TYPE_CHECKING:
    from cmw_pipeline.audit.result import Audit
    from cmw_pipeline.config.schema import Params
    from cmw_pipeline.data.own import OwnData

_COLUMNS = {
    "label": "Column of labels, where it has another name.",
    "path": "Column of pictures, where it has another name.",
    "features": "One column of vectors, or the prefix of columns of numbers.",
    "split": "Column that says train or test.",
    "trusted": "Column that says which labels a person vouches for: 1 or 0.",
    "clean_label": "Column of right labels, where they are known.",
    "group": "Column of what must not be divided: the patient, the video.",
    "id": "Column of what the rows are called.",
}


def columns(function: Any) -> Any:
    """The options that say what columns are called."""
    for name, about in reversed(_COLUMNS.items()):
        function = click.option("--" + name.replace("_", "-"), name, help=about)(function)
    return click.option("--skip-bad", is_flag=True, help="Leave out rows that cannot be used.")(function)


def read(place: Path, options: dict[str, Any], seed: int) -> "OwnData":
    """The dataset that the options of :func:`columns` describe."""
    from cmw_pipeline.data.own import Columns, read_own
    from cmw_pipeline.runtime.workers import decode_workers

    skip_bad = options.pop("skip_bad")
    return read_own(place, Columns(**options), skip_bad=skip_bad, seed=seed, workers=decode_workers())


@main.command(epilog="Example: cmw audit my-pictures")
@click.argument("place", metavar="PATH")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the results.  [default: audit/NAME]")
@click.option("--fast", is_flag=True, help="The ranking alone: no folds, no estimates.")
@click.option("--backbone", default="auto", show_default=True, help="auto, none, or a weight file.")
@click.option("--method", default="cmw-net-sl", show_default=True, help="cmw-net-sl, cmw-net, elr or erm.")
@click.option("--review", type=click.Path(path_type=Path), help="reviewed.csv, as the report saves it.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--fail-above", type=click.FloatRange(0, 1), help="Exit with 3 where more labels look wrong.")
@columns
@click.pass_context
def audit(
    ctx: click.Context,
    /,
    place: str,
    out: Path | None,
    fast: bool,
    backbone: str,
    method: str,
    review: Path | None,
    seed: int,
    fail_above: float | None,
    **options: Any,
) -> None:
    """Find the labels that look wrong, and learn a classifier in spite of them.

    PATH is a folder of pictures, a table (CSV, TSV, JSON Lines, Parquet) of paths or features, an .npz of
    vectors, or what Hugging Face's save_to_disk wrote; or a dataset of this project, or dataset/bias; or
    results/audit/NAME.html, which the parameters declare. The same command continues an audit that was
    interrupted.
    """
    check_addresses()
    from cmw_pipeline.audit.review import read_review, reviewed
    from cmw_pipeline.audit.run import Asked

    if (declared := _declared(place)) is not None:
        click.echo(_page(ctx, declared))
        return
    again = _said_again(out, options)
    data = _data(ctx, place, options, seed)
    said = None if review is None else read_review(review, data)
    if said is not None:
        data = reviewed(data, said)
    folder = out or Path("audit", _plain(place))
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: no folder", "name one for the results: --out FOLDER")
    if out is None:
        _refuse_another(folder, place)
    asked = Asked(method, 0 if fast else 5, seed)
    found = _audited(data, asked, folder, place, backbone, said, again)
    click.echo(found.verdict)
    click.echo(f"{folder / 'report.html'}")
    noise, listed = found.notes["noise"], found.notes["listed"]
    share = listed / found.notes["train"] if noise is None else noise["value"]
    if fail_above is not None and share > fail_above:
        click.echo(f"{share:.1%} of the labels look wrong, more than {fail_above:.1%}", err=True)
        ctx.exit(3)


def _declared(place: str) -> str | None:
    """The name of an audit that the parameters declare: of ``results/audit/NAME.html``."""
    path = PurePosixPath(place)
    return path.stem if path.suffix == ".html" and path.parent == PurePosixPath(RESULTS, "audit") else None


def _page(ctx: click.Context, name: str) -> Path:
    from cmw_pipeline.audit.page import make_page
    from cmw_pipeline.runtime.signals import stop_requests
    from cmw_pipeline.runtime.workers import decode_workers

    with stop_requests() as stop:
        return make_page(Plan(load(ctx.obj)), name, Path.cwd(), stop, decode_workers())


def _data(ctx: click.Context, path: str, options: dict[str, Any], seed: int) -> "OwnData":
    if Path(path).exists():
        return read(Path(path), options, seed)
    if any(options.values()):
        raise ConfigError(f"{path}: no such file or folder")
    from cmw_pipeline.audit.planned import planned_data

    try:
        return planned_data(Plan(load(ctx.obj)), path, Path.cwd())
    except ConfigError as error:
        raise ConfigError(
            f"{path}: no such file or folder, and no dataset: {error.message}", error.hint
        ) from None


def _plain(path: str) -> str:
    """A folder's name from a path or a name: ``digits/asym-0.4`` is ``digits-asym-0.4``."""
    place = Path(path)
    if not place.exists():
        return path.replace("/", "-")
    return place.resolve().name if place.is_dir() else place.resolve().stem


def _refuse_another(folder: Path, place: str) -> None:
    """The folder that an audit takes by its name may hold another's, of data of the same name."""
    file = folder / "audit.json"
    if file.is_file():
        try:
            name = json.loads(file.read_text(encoding="utf-8"))["name"]
        except (ValueError, KeyError, TypeError):
            raise ConfigError(
                f"{file}: not what an audit writes", f"remove {folder}, or name another"
            ) from None
        if Path(name).resolve() != Path(place).resolve():
            raise ConfigError(f"{folder} holds the audit of {name}", "name another folder: --out FOLDER")


def _said_again(out: Path | None, options: dict[str, Any]) -> list[str]:
    """The options that the next command, with a review, has to repeat."""
    words = [] if out is None else ["--out", str(out)]
    for name in _COLUMNS:
        if options[name] is not None:
            words += ["--" + name.replace("_", "-"), options[name]]
    return words + ["--skip-bad"] * options["skip_bad"]


def _audited(
    data: "OwnData", asked: Any, folder: Path, name: str, backbone: str, said: Any, again: list[str]
) -> "Audit":
    from cmw_pipeline.audit.make import WORK, audit_data
    from cmw_pipeline.audit.report import render
    from cmw_pipeline.io.atomic import write_text
    from cmw_pipeline.runtime.signals import stop_requests
    from cmw_pipeline.runtime.workers import decode_workers

    with stop_requests() as stop:
        found = audit_data(
            data,
            asked,
            folder,
            folder / WORK,
            stop,
            backbone=backbone,
            workers=decode_workers(),
            review=said,
            name=name,
            again=again,
        )
    write_text(folder / "report.html", render(found))
    return found


@main.command("import", epilog="Example: cmw import my-pictures --name mine")
@click.argument("place", metavar="PATH", type=click.Path(path_type=Path))
@click.option("--name", help="What the dataset is called.  [default: as the file or folder]")
@click.option("--again", is_flag=True, help="Read data that have changed since they were imported.")
@columns
@click.pass_context
def import_(ctx: click.Context, /, place: Path, name: str | None, again: bool, **options: Any) -> None:
    """Make a dataset of your own one of the project, for every bias, method and table.

    PATH is as for `cmw audit`. Pictures stay where they are. params/NAME.yaml, which
    the parameters then include, says how it is trained on.
    """
    from cmw_pipeline.config.document import including
    from cmw_pipeline.io.atomic import write_text
    from cmw_pipeline.stages import own

    name, params = name or place.resolve().stem.lower(), load(ctx.obj)
    file = ctx.obj.parent / "params" / f"{name}.yaml"
    if not again and (name in params.datasets or file.exists()):
        hint = "choose another: --name NAME; or --again, where its data have changed"
        raise ConfigError(f"there is a dataset {name} already, or {file}", hint)
    if not again:
        own.refuse_taken(name, params)
    data = read(place, options, params.bias_seed)
    if not len(data.where("test")):
        hint = "say which in a column split or in folders train and test, or have five samples of each class"
        raise ConfigError(f"{place}: no samples to test on", hint)
    more = None if again else including(ctx.obj, file)
    path = _imported(params, name, data, again)
    if not again:
        write_text(file, own.parameters(name, data))
    if more:
        write_text(ctx.obj, more)
    train = int((data.rows["split"] == "train").sum())
    classes, test = len(data.class_names), len(data.rows) - train
    click.echo(f"{path}: {classes} classes, {train} to train on, {test} to test")
    click.echo(f"{file} says how; next: snakemake --cores all results/audit/{name}.html results/{name}.md")


def _imported(params: "Params", name: str, data: "OwnData", again: bool) -> PurePosixPath:
    """The raw artefact of a dataset, made."""
    from cmw_pipeline.stages import own
    from cmw_pipeline.stages.base import make

    source = own.source_of(data)
    if again and (name not in params.datasets or params.datasets[name].source != source):
        what = params.datasets[name].source if name in params.datasets else "no such dataset"
        raise ConfigError(f"{name} is {what} in the parameters; the data are {source}", "mend the parameters")
    artefact = Plan(with_dataset(params, name, source)).download(name)
    make(artefact, lambda job: own.run(job, data), Path.cwd(), again=again)
    return artefact.path


def with_dataset(params: "Params", name: str, source: str) -> "Params":
    """The parameters with one dataset more.

    Raises:
        ConfigError: the name is not one that a dataset can have.
    """
    from pydantic import TypeAdapter, ValidationError

    from cmw_pipeline.config.fields import Name
    from cmw_pipeline.config.schema import Dataset

    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise ConfigError(f"{name!r} is no name of a dataset", "letters and digits: --name NAME") from None
    dataset = Dataset(source=source)
    return params.model_copy(update={"datasets": {**params.datasets, name: dataset}})


@main.command(epilog="Example: cmw predict audit/my-pictures new-pictures")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("place", metavar="PATH", type=click.Path(path_type=Path))
@click.option("--path", help=_COLUMNS["path"])
@click.option("--id", "id_", metavar="TEXT", help="Column or array of what the samples are called.")
def predict(run: Path, place: Path, path: str | None, id_: str | None) -> None:
    """Say what the classifier of an audit makes of new samples: CSV, one line a sample.

    RUN is the folder of an audit. PATH is a picture, a folder of pictures, a table of paths or features, or
    an .npz of vectors. Without --id pictures are called by their paths, and vectors by the column `id` or
    else by their number from 0 on.
    """
    import csv

    from cmw_pipeline.audit.model import load_classifier
    from cmw_pipeline.data.own.unlabelled import picture_files, vector_rows

    model = load_classifier(run)
    values: Any
    if model.view.kind == "vectors":
        if path:
            raise ConfigError(f"{run}: the classifier takes vectors, not pictures", "leave out --path")
        values, names = vector_rows(place, model.features, id_)
    else:
        values, names = picture_files(place, path, id_)
    said = model.probabilities(values)
    lines = csv.writer(sys.stdout, lineterminator="\n")
    lines.writerow(["sample", "label", "probability"])
    for name, row in zip(names, said, strict=True):
        lines.writerow([name, model.class_names[row.argmax()], f"{row.max():.4f}"])
