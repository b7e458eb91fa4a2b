"""A raw artefact, read whole."""

from cmw_pipeline.data.raw import read_images, read_labels


def read_raw(path):
    """Images and columns of the label table."""
    return read_images(path), read_labels(path)
