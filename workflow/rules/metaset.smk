"""Choose the trustworthy samples.

Input:  the biased labels
Output: metaset.parquet, and manifest.json, written last
"""


use rule inject as metaset with:
    """Choose the trustworthy samples."""
    input:
        made_from("metaset"),
        changed=changes("metaset"),
    output:
        "results/metaset/{name}-{digest}/manifest.json",
    log:
        "results/logs/metaset/{name}-{digest}.log",
    params:
        stage="metaset",
