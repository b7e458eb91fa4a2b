"""Train one classifier by one method.

Input:  images, biased labels, meta-set
Output: rows.parquet, epochs.csv, samples.parquet, model.safetensors, method.safetensors, and
        manifest.json, written last. Checkpoints lie in results/checkpoints, which is no rule's output:
        a killed job continues from them.
"""


rule train:
    """Train one classifier by one method."""
    input:
        made_from("train"),
        changed=changes("train"),
    output:
        "results/train/{name}-{digest}/manifest.json",
    log:
        "results/logs/train/{name}-{digest}.log",
    conda:
        "../envs/cmw.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=memory,
        runtime=minutes,
    params:
        launcher=several_processes,
        stage="train",
    shell:
        "{params.launcher}cmw {params.stage:q} {output:q} > {log:q} 2>&1"
