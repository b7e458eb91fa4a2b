"""Label files: a published one, fetched or at hand in any format, or a user's own."""

from cmw_pipeline.config.bias_names import BiasStep
from cmw_pipeline.config.datasets import DatasetFacts
from cmw_pipeline.config.label_files import LabelFile
from cmw_pipeline.data.label_files import label_digest, read_label_file, write_given
from cmw_pipeline.data.sources.asked import Asked, Notes
from cmw_pipeline.errors import ConfigError, IntegrityError
from cmw_pipeline.io.download import fetch
from cmw_pipeline.types import Labels


def write_labels(facts: DatasetFacts, step: BiasStep, name: str, asked: Asked) -> Notes:
    """Write the labels of one bias step: ``plc:type1-0.35``, ``human-worst`` or a user's ``file-DIGEST``.

    A copy at hand may be in any format that :func:`~cmw_pipeline.data.label_files.read_label_file` reads: the
    labels themselves are compared with the published ones.

    Args:
        facts: of the dataset that the labels are for.
        step: names the labels.
        name: of the artefact, for messages.
        asked: the folder to fill, and the copy at hand.

    Raises:
        ConfigError: labels of a user's own, of which no copy was named.
        IntegrityError: not the labels that the step names.
        SystemFault: the file cannot be fetched, read or written.
    """
    published = facts.label_file(step)
    if asked.local is not None:
        file, origin = asked.local, asked.local.resolve().name
    elif published is not None:
        file = asked.downloads / published.url.rpartition("/")[2]
        origin = fetch([published.url], published.sha256, file, begins=published.begins)
    else:
        raise ConfigError(
            f"{name}: a label file of your own has no address to fetch it from",
            f"use `cmw download {name} --from FILE`",
        )
    labels, clean = read_label_file(file, facts.num_classes, published.entry if published else None)
    digest = label_digest(labels)
    if published is None:
        _check_own(asked, digest, step)
        notes: Notes = {"verified": not asked.accept_unverified}
    else:
        notes = asked.verified(file, _difference(asked, labels, digest, published))
    write_given(asked.out, labels, clean)
    return notes | {"origin": origin, "labels_sha256": digest}


def _check_own(asked: Asked, digest: str, step: BiasStep) -> None:
    if not digest.startswith(step.word or "-"):
        name = f"{step.kind}-{digest[:12]}"
        raise IntegrityError(f"{asked.local}: its labels are {name}", f"name the bias {name}")


def _difference(asked: Asked, labels: Labels, digest: str, published: LabelFile) -> str | None:
    """What tells labels from the published ones; another number of them is refused at once."""
    if len(labels) != published.rows:
        raise IntegrityError(
            f"{asked.local}: {len(labels)} labels; expected {published.rows}",
            "the file is of another dataset or split",
        )
    if digest != published.labels_sha256:
        return f"not the published labels: their sha256 is {digest}; expected {published.labels_sha256}"
    return None
