"""The plan, and where each rule's inputs lie in it. Wiring only: the logic is in the package."""

import sys

from cmw_pipeline import engine

plan = engine.Plan(engine.params_of_this_run())
asked = set()  # tables whose cost was said


envvars:
    "CMW_PARAMS",  # set by now; jobs work by the same parameters


# No shell stays in between: what a cluster signals reaches the command.
shell.prefix("exec ")


wildcard_constraints:
    digest="[0-9a-f]{10}",
    table="|".join(plan.params.tables).replace(".", "[.]"),


def made_from(stage):
    """The manifests that an artefact of this stage is made from."""

    def inputs(wildcards):
        artefact = plan.resolve(stage, f"{stage}/{wildcards.name}-{wildcards.digest}")
        return [source.manifest for source in artefact.inputs.values()]

    return ancient(inputs)


def rows_and_functions(wildcards):
    """The manifests that a table is made from; a dry run says what the missing ones will cost."""
    if workflow.dryrun and wildcards.table not in asked:
        asked.add(wildcards.table)
        print(*engine.still_to_come(plan, wildcards.table), sep="\n", file=sys.stderr)
    return [source.manifest for source in plan.table(wildcards.table).inputs.values()]


def planned(*stages):
    """The manifests of all artefacts of these stages that the built tables need."""
    found = plan.artefacts  # not asked in a cluster's jobs
    return lambda _: [a.manifest for a in found().values() if a.stage in stages]
