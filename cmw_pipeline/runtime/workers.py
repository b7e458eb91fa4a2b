"""How many processes decode images."""

import os

from cmw_pipeline.errors import ConfigError

_MOST = 16


def decode_workers(processes: int = 1) -> int:
    """Worker processes for each of the processes that train together.

    ``CMW_WORKERS`` of the environment, or the cores that this process may use but one for each that trains,
    at most 16; 0 means that the training process decodes. Results do not depend on it.

    Raises:
        ConfigError: ``CMW_WORKERS`` is no number from 0 on.
    """
    asked = os.environ.get("CMW_WORKERS")
    if asked is not None:
        if not asked.isdecimal():
            raise ConfigError(f"CMW_WORKERS is {asked!r}", "write a number of processes, such as 8")
        return int(asked)
    return max(0, min(len(os.sched_getaffinity(0)) // processes - 1, _MOST))
