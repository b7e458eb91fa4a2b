"""Render a table and its figures.

Input:  the rows of all its cells, the weighting functions it draws
Output: results/<table>.md, .parquet, figures, and <table>.manifest.json, written last

A table's path does not change with its content: where its receipt does not name what is asked and what lies
there now, the rule has one more input, newer than the page.
"""

config["landing"] = engine.landing  # for report/workflow.rst


rule table:
    """Render {wildcards.table}."""
    input:
        ancient(rows_and_functions),
        changed=lambda w: seen.changes(plan.table(w.table)),
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
