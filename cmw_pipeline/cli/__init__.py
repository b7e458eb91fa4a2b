"""One thin click command a stage; the same commands that Snakemake calls work by hand."""

from cmw_pipeline.cli.main import main

__all__ = ["main"]
