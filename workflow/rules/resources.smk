"""What a training run asks its machine for. Wiring only: the logic is in the package."""


def several_processes(wildcards, resources):
    """A run that was given several whole GPUs trains on all of them, a process each."""
    if resources.gpu <= 1:
        return ""
    return f"torchrun --no-python --standalone --nproc-per-node {resources.gpu} "


def minutes(wildcards, attempt):
    """The time limit of a run: by recorded costs, else half a day; more at each further attempt."""
    return engine.minutes(wildcards.name, 720, attempt)


def memory(wildcards, attempt):
    """The memory of a run, in MB."""
    return engine.mebibytes(wildcards.name, 8000, attempt)
