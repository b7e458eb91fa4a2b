"""What Snakemake asks the package: the plan of a run of the workflow, and what its jobs will take.

The only room that files of rules import. It never imports torch.
"""

from cmw_pipeline.config import Plan
from cmw_pipeline.engine.flags import Seen
from cmw_pipeline.engine.landing import landing
from cmw_pipeline.engine.params import params_of_this_run
from cmw_pipeline.engine.past_runs import mebibytes, minutes, still_to_come

__all__ = ["Plan", "Seen", "landing", "mebibytes", "minutes", "params_of_this_run", "still_to_come"]
