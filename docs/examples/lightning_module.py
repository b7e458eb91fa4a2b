"""A module of Lightning, whose trainer keeps the loop, the precision and the optimiser."""

import lightning.pytorch as lightning
import torch

from cmw_pipeline import Reweighter


class Classifier(lightning.LightningModule):
    """Trains a model under a weighting that is learned on trusted samples."""

    def __init__(self, model, trusted, class_counts, **options):
        super().__init__()
        self.model, self.trusted = model, iter(trusted)
        self.asked = {"class_counts": class_counts, **options}

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
        self.reweighter = Reweighter(self.model, "cmw-net", lr=optimizer, **self.asked)
        return optimizer

    def training_step(self, batch, _):
        images, labels = batch
        meta = self.transfer_batch_to_device(next(self.trusted), self.device, 0)
        return self.reweighter.step(images, labels, meta)

    def on_save_checkpoint(self, checkpoint):
        checkpoint["reweighter"] = self.reweighter.state_dict()

    def on_load_checkpoint(self, checkpoint):
        self.reweighter.load_state_dict(checkpoint["reweighter"])


def train(model, loader, trusted, class_counts, **options):
    """Train on (images, labels)."""
    module = Classifier(model, trusted, class_counts, **options)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", enable_model_summary=False, **quiet)
    trainer.fit(module, loader)
    return module.reweighter
