"""Choose the trustworthy samples.

Input:  the biased labels
Output: metaset.parquet, and manifest.json, written last
"""


rule metaset:
    """Choose the trustworthy samples."""
    input:
        made_from("metaset"),
    output:
        "results/metaset/{name}-{digest}/manifest.json",
    log:
        "results/logs/metaset/{name}-{digest}.log",
    conda:
        "../envs/cmw.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    shell:
        "cmw metaset {output:q} > {log:q} 2>&1"
