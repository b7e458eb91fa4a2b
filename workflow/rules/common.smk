"""The plan, and where each rule's inputs lie in it. Wiring only: the logic is in the package."""

import sys

from cmw_pipeline import engine

plan = engine.Plan(engine.params_of_this_run())
seen = engine.Seen(plan)  # what lies there
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
    return ancient(lambda w: seen.inputs(seen.artefact(stage, **w)))


def changes(stage):
    """Reasons to make it again."""
    return lambda w: seen.changes(seen.artefact(stage, **w))


def rows_and_functions(w):
    """The manifests that a table is made from; a dry run says what the missing ones will cost."""
    if workflow.dryrun and w.table not in asked:
        asked.add(w.table)
        print(*engine.still_to_come(w.table, seen), sep="\n", file=sys.stderr)
    return seen.inputs(plan.table(w.table))


def planned(*stages):
    """The manifests of all artefacts of these stages that the built tables need."""
    return lambda _: seen.planned(*stages)
