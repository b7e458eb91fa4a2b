"""Datasets of the user's own: folders of pictures, tables of paths or features, arrays of vectors."""

from cmw_pipeline.data.own.found import Columns
from cmw_pipeline.data.own.settle import UNKNOWN, OwnData, own_arrays, read_own

__all__ = ["UNKNOWN", "Columns", "OwnData", "own_arrays", "read_own"]
