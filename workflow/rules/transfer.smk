"""Train one classifier under a weighting function learned elsewhere: the rule `train` once more.

Input:  images, biased labels, an exported weighting function
Output: as of train
"""


use rule train as transfer with:
    """Train one classifier under a weighting function learned elsewhere."""
    input:
        made_from("transfer"),
        changed=changes("transfer"),
    output:
        "results/transfer/{name}-{digest}/manifest.json",
    log:
        "results/logs/transfer/{name}-{digest}.log",
    params:
        stage="transfer",
