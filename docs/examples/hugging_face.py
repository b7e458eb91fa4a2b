"""Hugging Face's Trainer: one method of it says what the loss is."""

import torch
import transformers

from cmw_pipeline import Reweighter


class WeightedTrainer(transformers.Trainer):
    """Trains under a weighting that is learned on trusted samples."""

    def __init__(self, *arguments, trusted, class_counts, reweighter_options, **others):
        super().__init__(*arguments, **others)
        self.trusted = iter(trusted)
        self.asked = {"class_counts": class_counts, **reweighter_options}
        self.reweighter = None

    def compute_loss(self, model, inputs, return_outputs=False, **_):
        if not model.training:
            return super().compute_loss(model, inputs, return_outputs)
        if self.reweighter is None:

            def logits(model, inputs):
                return model(**inputs).logits

            self.reweighter = Reweighter(model, "cmw-net", lr=self.optimizer, logits=logits, **self.asked)
        meta, meta_labels = next(self.trusted)
        labels = inputs.pop("labels")
        meta = self._prepare_inputs(meta), meta_labels.to(labels.device)
        return self.reweighter.step(inputs, labels, meta)


def train(model, dataset, trusted, class_counts, folder, batch_size=100, **options):
    """Train a model of transformers on {inputs and labels}; ``trusted`` gives ({inputs}, labels)."""
    asked = transformers.TrainingArguments(
        folder,
        num_train_epochs=1,
        per_device_train_batch_size=batch_size,
        max_grad_norm=0,
        lr_scheduler_type="constant",
        report_to=[],
        save_strategy="no",
        use_cpu=True,
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    trainer = WeightedTrainer(
        model,
        asked,
        train_dataset=dataset,
        optimizers=(optimizer, None),
        trusted=trusted,
        class_counts=class_counts,
        reweighter_options=options,
    )
    trainer.train()
    return trainer.reweighter
