"""Take the learned weighting function out of a run.

Input:  a run of a meta-learned method
Output: weighting.safetensors, card.json, curve.csv, weighting.png, and manifest.json, written last
"""


rule export:
    """Take the learned weighting function out of a run."""
    input:
        made_from("export"),
        changed=changes("export"),
    output:
        manifest="results/export/{name}-{digest}/manifest.json",
        figure=report(
            "results/export/{name}-{digest}/weighting.png",
            caption="../report/weighting.rst",
            category="Weighting functions",
        ),
    log:
        "results/logs/export/{name}-{digest}.log",
    conda:
        "../envs/cmw.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    shell:
        "cmw export {output.manifest:q} > {log:q} 2>&1"
