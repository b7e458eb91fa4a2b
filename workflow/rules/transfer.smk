"""Train one classifier under a weighting function learned elsewhere.

Input:  images, biased labels, an exported weighting function
Output: rows.parquet, epochs.csv, samples.parquet, model.safetensors, method.safetensors, and
        manifest.json, written last. Checkpoints lie in results/checkpoints, which is no rule's output:
        a killed job continues from them.
"""


rule transfer:
    """Train one classifier under a weighting function learned elsewhere."""
    input:
        made_from("transfer"),
    output:
        "results/transfer/{name}-{digest}/manifest.json",
    log:
        "results/logs/transfer/{name}-{digest}.log",
    conda:
        "../envs/cmw.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory,
        runtime=minutes,
    params:
        launcher=several_processes,
    shell:
        "{params.launcher}cmw transfer {output:q} > {log:q} 2>&1"
