"""Render a table and its figures.

Input:  the rows of all its cells, the weighting functions it draws
Output: results/<table>.md, .parquet, figures, and <table>.manifest.json, written last

A table's path does not change with its content. Its receipt names the plan it was rendered from; where
that is not today's plan, the rule also asks for a flag that is never there, and so runs again.
"""


rule table:
    """Render {wildcards.table}."""
    input:
        lambda w: ancient([a.manifest for a in plan.table(w.table).inputs.values()]),
        stale=lambda w: stale_receipt(plan.table(w.table)),
    output:
        report("results/{table}.md", caption="../report/table.rst", category="Tables"),
        report(
            "results/{table}.png", caption="../report/figure.rst", category="Figures"
        ),
        "results/{table}.parquet",
        "results/{table}.manifest.json",
    log:
        "results/logs/table/{table}.log",
    conda:
        "../envs/cmw.yaml"
    resources:
        mem_mb=2000,
        runtime=10,
    shell:
        "cmw table {wildcards.table:q} --strict > {log:q} 2>&1"


rule stale:
    """Say that {wildcards.table} was rendered from another plan."""
    output:
        temp(touch("results/.stale/{table}-{digest}")),
    log:
        "results/logs/stale/{table}-{digest}.log",
    localrule: True
    conda:
        "../envs/cmw.yaml"
    shell:
        "echo {wildcards.table:q} > {log:q}"
