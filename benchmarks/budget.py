"""What a table's training costs at least, in floating-point operations, and the speed that does it in a day.

    python benchmarks/budget.py table4 --json benchmarks/results/budget-table4.json

Counted, not timed: a forward pass of the recipe's own network by PyTorch's counter. Three of them make a step
of ERM, a meta step adds seven (`docs/performance.md`), a teacher that is asked adds one, two networks double
all. Left out: tests after each epoch, augmentation, passes over the training set between epochs. CIFAR only.
"""

import argparse
import functools
from collections import Counter
from pathlib import Path

import torch
from common import report

from cmw_pipeline.bias.long_tail import class_sizes
from cmw_pipeline.config import Plan, load
from cmw_pipeline.config.bias_names import parse_bias
from cmw_pipeline.config.datasets import FACTS
from cmw_pipeline.config.weightings import MetaLearned
from cmw_pipeline.training.speed import forward_flops

TRAINED, PUBLISHED_LABELS = 50_000, 45_000
FORWARDS, META_FORWARDS = 3, 7
DAY = 24 * 60 * 60


@functools.cache
def of_a_picture(network, classes):
    """Of a forward pass of one 32 x 32 picture."""
    return forward_flops(network, 3, 32, classes)


def samples(bias, classes):
    steps = parse_bias(bias)
    if any(step.variant == "plc" and step.reads == "labels" for step in steps):
        return PUBLISHED_LABELS
    if steps and steps[0].kind == "lt":
        return int(class_sizes(TRAINED // classes, classes, steps[0].value).sum())
    return TRAINED


def run_flops(plan, cell):
    options, recipe = plan.options(cell), plan.params.recipes[cell.recipe]
    classes = FACTS[plan.params.datasets[cell.dataset].source].num_classes
    shown = recipe.epochs * samples(cell.bias, classes)
    passes = shown * (FORWARDS + options.needs_teacher)
    weighting = options.weighting
    if isinstance(weighting, MetaLearned):
        start = max(options.start_epoch, weighting.start_epoch)
        steps = shown / recipe.batch_size * (recipe.epochs - start) / recipe.epochs
        passes += (
            steps / weighting.meta_every * META_FORWARDS * (recipe.batch_size + weighting.meta_batch) / 2
        )
    return passes * options.towers * of_a_picture(recipe.network, classes)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    plan = Plan(load("params.yaml"))
    cells = plan.cells(options.table)
    flops = Counter()
    for cell in cells:
        flops[cell.method] += run_flops(plan, cell)
    runs = Counter(cell.method for cell in cells)
    for method, total in flops.items():
        print(f"{method:24} {runs[method]:4} runs  {total / runs[method] / 1e15:8.1f} PFLOP a run")
    total = sum(flops.values())
    rate = total / DAY / 1e12
    print(f"{len(cells)} runs: {total / 1e18:.1f} EFLOP; in one day with {rate:.0f} TFLOP/s sustained")
    body = {"table": options.table, "runs": len(cells), "exaflop": round(total / 1e18, 2)}
    body["petaflop_a_run"] = {method: round(n / runs[method] / 1e15, 1) for method, n in flops.items()}
    report(options.json, torch.device("cpu"), body | {"teraflops_for_a_day": round(rate)})


if __name__ == "__main__":
    main()
