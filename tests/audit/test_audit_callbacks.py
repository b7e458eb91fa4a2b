"""The trajectory margin in the training of others; Lightning and transformers are no dependencies of ours."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from cmw_pipeline.audit import TrajectoryMargin, lightning_callback, trainer_callback
from cmw_pipeline.audit.callbacks import see_all
from cmw_pipeline.errors import ConfigError, SystemFault


def planted():
    """Three clusters; every tenth label is wrong."""
    rng = np.random.default_rng(0)
    true = np.arange(90) % 3
    values = torch.from_numpy((rng.normal(size=(90, 3)) + 6 * np.eye(3)[true]).astype(np.float32))
    return values, torch.from_numpy(np.where(np.arange(90) % 10 == 0, (true + 1) % 3, true))


def wrong(margin, labels):
    return np.flatnonzero(margin.scores(labels.numpy()) > 0).tolist()


def test_every_sample_is_seen_once_as_the_model_in_evaluation_sees_it():
    values, labels = planted()
    model, margin = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 3)), TrajectoryMargin(90, 3)
    model[0].eval()
    see_all(margin, model, DataLoader(list(zip(values, labels, strict=True)), 7), lambda m, b: m(b[0]))
    model.eval()
    with torch.no_grad():
        expected = model(values).softmax(dim=1).numpy()
    np.testing.assert_allclose(margin.probabilities(), expected, atol=1e-6)


def test_a_model_in_training_is_left_in_training():
    values, _ = planted()
    model = nn.Linear(3, 3).train()
    see_all(TrajectoryMargin(90, 3), model, [[values]], lambda m, b: m(b[0]))
    assert model.training


def test_a_loader_of_other_samples_is_refused_and_nothing_is_counted():
    margin = TrajectoryMargin(90, 3)
    with pytest.raises(ConfigError, match="gives 80 samples; the margin is of 90"):
        see_all(margin, nn.Linear(3, 3), [[torch.zeros(80, 3)]], lambda m, b: m(b[0]))
    assert int(margin.updates.sum()) == 0


def test_what_is_not_installed_is_named(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])

    monkeypatch.setattr("cmw_pipeline.audit.callbacks.import_module", absent)
    for make, library in ((lightning_callback, "pytorch-lightning"), (trainer_callback, "transformers")):
        with pytest.raises(SystemFault, match=f"{library} is not installed"):
            make(TrajectoryMargin(1, 2), [])


def test_lightning_finds_the_wrong_labels(tmp_path):
    lightning = pytest.importorskip("pytorch_lightning", reason="pytorch-lightning is not installed")
    values, labels = planted()

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x):
            return self.layer(x)

        def training_step(self, batch, _):
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    torch.manual_seed(0)
    samples, margin = list(zip(values, labels, strict=True)), TrajectoryMargin(90, 3)
    trainer = lightning.Trainer(
        max_epochs=5,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        default_root_dir=tmp_path,
        callbacks=[lightning_callback(margin, DataLoader(samples, 30))],
    )
    trainer.fit(Module(), DataLoader(samples, 10, shuffle=True))
    assert margin.updates.tolist() == [5] * 90
    assert wrong(margin, labels) == list(range(0, 90, 10))


def test_hugging_faces_trainer_finds_the_wrong_labels(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    values, labels = planted()

    class Rows(Dataset):
        def __len__(self):
            return 90

        def __getitem__(self, row):
            return {"x": values[row], "labels": labels[row]}

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x, labels=None):
            logits = self.layer(x)
            loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
            return transformers.modeling_outputs.SequenceClassifierOutput(loss=loss, logits=logits)

    torch.manual_seed(0)
    margin = TrajectoryMargin(90, 3)
    asked = transformers.TrainingArguments(
        str(tmp_path), num_train_epochs=5, learning_rate=0.05, report_to=[], save_strategy="no", use_cpu=True
    )
    watch = trainer_callback(margin, DataLoader(Rows(), 30))
    transformers.Trainer(Model(), asked, train_dataset=Rows(), callbacks=[watch]).train()
    assert margin.updates.tolist() == [5] * 90
    assert wrong(margin, labels) == list(range(0, 90, 10))
