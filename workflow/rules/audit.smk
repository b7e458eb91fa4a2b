"""Look for wrong labels.

Input:  a dataset's samples and labels, or those of a bias
Output: results/audit/<audit>.html, and <audit>.manifest.json, written last; beside them results/audit/<audit>/
        with the tables, the classifier and the weighting function. Checkpoints lie in results/checkpoints.

As of a table, the path does not change with the content; see there.
"""


rule audits:
    """Every audit of audits:."""
    input:
        planned("audit"),


rule audit:
    """Look for wrong labels: {wildcards.audit}."""
    input:
        ancient(lambda w: seen.inputs(plan.audit(w.audit))),
        changed=lambda w: seen.changes(plan.audit(w.audit)),
    output:
        page=report(
            "results/audit/{audit}.html",
            caption="../report/audit.rst",
            category="Audits",
        ),
        receipt="results/audit/{audit}.manifest.json",
    log:
        "results/logs/audit/{audit}.log",
    wildcard_constraints:
        audit="[a-z0-9][a-z0-9.-]*",
    conda:
        "../envs/cmw.yaml"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=240,
    shell:
        "cmw audit {output.page:q} > {log:q} 2>&1"
