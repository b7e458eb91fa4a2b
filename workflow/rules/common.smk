"""The plan, and where each rule's inputs lie in it. Wiring only: the logic is in the package."""

from cmw_pipeline.config import Plan, load
from cmw_pipeline.io.receipts import unless_current

plan = Plan(load())
asked = set()  # tables whose cost was said


wildcard_constraints:
    digest="[0-9a-f]{10}",
    table="|".join(plan.params.tables).replace(".", "[.]"),


def made_from(stage):
    """The manifests that an artefact of this stage is made from."""

    def inputs(wildcards):
        artefact = plan.resolve(stage, f"{stage}/{wildcards.name}-{wildcards.digest}")
        return [source.manifest for source in artefact.inputs.values()]

    return ancient(inputs)


def several_processes(wildcards, resources):
    """A run that was given several whole GPUs trains on all of them, a process each."""
    if resources.gpu <= 1:
        return ""
    return f"torchrun --no-python --standalone --nproc-per-node {resources.gpu} "


def rows_and_functions(wildcards):
    """The manifests that a table is made from; a dry run says what the missing ones will cost."""
    if workflow.dryrun and wildcards.table not in asked:
        asked.add(wildcards.table)
        shell("cmw cost {wildcards.table:q} >&2")
    return [source.manifest for source in plan.table(wildcards.table).inputs.values()]


def planned(*stages):
    """The manifests of all artefacts of these stages that the built tables need."""
    return [a.manifest for a in plan.artefacts().values() if a.stage in stages]
