"""What to run: ``params.yaml`` read and checked, and the plan of artefacts it asks for.

Never imports torch: planning 1,000 cells has to stay under a second of our own time.
"""

from cmw_pipeline.config.artefact import Artefact
from cmw_pipeline.config.load import load
from cmw_pipeline.config.plan import Plan

__all__ = ["Artefact", "Plan", "load"]
