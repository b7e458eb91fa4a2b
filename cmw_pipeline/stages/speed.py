"""What estimates need of this machine and of a table's networks, measured and counted once."""

import logging
from pathlib import Path

from cmw_pipeline.config.plan import Plan
from cmw_pipeline.config.schema import Network
from cmw_pipeline.engine.forecast import Forecast, Speed, keep
from cmw_pipeline.engine.past_runs import like

log = logging.getLogger(__name__)


def measure_once(plan: Plan, table: str, root: Path) -> None:
    """Measure this machine and count a table's networks, where runs of no like need it and nobody has yet."""
    forecast = Forecast(plan, root)
    cells = [cell for cell in plan.cells(table) if not like(cell, root)]
    uncounted = forecast.unknown(cells)
    if not cells or (forecast.here and not uncounted):
        return
    import torch

    from cmw_pipeline.training.speed import forward_flops, measure

    log.info("measuring this machine, once")
    if not forecast.here:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        name = "one core of this machine" if device.type == "cpu" else torch.cuda.get_device_name(device)
        forecast.speed = Speed(name, **measure(device))
    flops = {
        shape: forward_flops(
            Network.model_validate({"name": shape.network, "width": shape.width}), *shape[2:]
        )
        for shape in uncounted
    }
    keep(root, forecast.speed, flops)
