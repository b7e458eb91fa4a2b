"""Options of every method, as ``params.yaml`` writes them; ``kind`` says which method."""

from typing import Annotated

from pydantic import Field

from cmw_pipeline.config.methods.base import MethodBase as MethodBase
from cmw_pipeline.config.methods.losses import Erm
from cmw_pipeline.config.methods.weighting import (
    CmwNet,
    CmwNetSl,
    L2rw,
    Mcw,
    MwNet,
)
from cmw_pipeline.config.methods.weighting import (
    MetaLearned as MetaLearned,
)
from cmw_pipeline.config.methods.weighting import (
    Transfer as Transfer,
)
from cmw_pipeline.config.methods.weighting import (
    WeightNetMethod as WeightNetMethod,
)

Method = Annotated[
    Erm | L2rw | Mcw | MwNet | CmwNet | CmwNetSl | Transfer,
    Field(discriminator="kind"),
]
