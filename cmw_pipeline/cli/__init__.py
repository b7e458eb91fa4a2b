"""One thin click command a stage; the same commands that Snakemake calls work by hand."""

from cmw_pipeline.cli import upkeep as _upkeep  # noqa: F401  (its commands join the group)
from cmw_pipeline.cli.main import main

__all__ = ["main"]
