"""Bend a dataset's labels.

Input:  the dataset's labels
Output: labels.parquet with the given and the clean label of every image, and manifest.json, written last
"""


rule inject:
    """Bend a dataset's labels."""
    input:
        made_from("inject"),
        changed=changes("inject"),
    output:
        "results/inject/{name}-{digest}/manifest.json",
    log:
        "results/logs/inject/{name}-{digest}.log",
    conda:
        "../envs/cmw.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        stage="inject",
    shell:
        "cmw {params.stage:q} {output:q} > {log:q} 2>&1"
