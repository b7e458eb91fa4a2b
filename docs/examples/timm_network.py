"""A network of timm, with mixed precision, accumulated gradients and a schedule."""

import timm
import torch

from cmw_pipeline import Reweighter


def network(classes, **options):
    """A small vision transformer for pictures of 8 x 8 grey pixels."""
    shape = {"img_size": 8, "patch_size": 2, "in_chans": 1}
    return timm.create_model("test_vit", pretrained=False, num_classes=classes, **shape, **options)


def train(model, loader, trusted, class_counts, accumulate=1, precision=torch.bfloat16, **options):
    """Train on (images, labels), the gradients of ``accumulate`` batches at a time."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    reweighter = Reweighter(model, "cmw-net", class_counts=class_counts, lr=optimizer, **options)
    for number, ((images, labels), meta) in enumerate(zip(loader, trusted, strict=False), start=1):
        with torch.autocast(images.device.type, precision, enabled=precision is not None):
            loss = reweighter.step(images, labels, meta)
        (loss / accumulate).backward()
        if number % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    return reweighter
