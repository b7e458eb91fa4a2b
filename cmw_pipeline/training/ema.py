"""Exponential moving average of the classifier: the teacher."""

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def make_ema(model: nn.Module, decay: float | None) -> AveragedModel | None:
    """A copy whose parameters follow θ <- decay θ + (1 - decay) w at every ``update_parameters``.

    Its batch-norm statistics are the student's, copied at each update: the published code leaves the
    teacher's at their initial values during warm-up, which makes its first selection arbitrary.
    """
    if decay is None:
        return None
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(model, multi_avg_fn=average)
