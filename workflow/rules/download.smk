"""Get a dataset's images and labels as published.

Input:  nothing
Output: images.npy, labels.parquet, and manifest.json, written last
"""


rule download:
    """Get a dataset's images and labels as published."""
    input:
        made_from("download"),
        changed=changes("download"),
    output:
        "results/download/{name}-{digest}/manifest.json",
    log:
        "results/logs/download/{name}-{digest}.log",
    conda:
        "../envs/cmw.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    shell:
        "cmw download {output:q} > {log:q} 2>&1"
