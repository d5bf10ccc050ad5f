"""Training with the real Lightning."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import pairfuse as pf

pytorch = pytest.importorskip("lightning.pytorch")

from pairfuse.integrations.lightning import ComparatorModule, PlateauCallback  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # Lightning's advice about workers, loggers and steps
]


def trainer(**options):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return pytorch.Trainer(accelerator="cpu", enable_model_summary=False, **quiet, **options)


def labeled():
    torch.manual_seed(0)
    labels = torch.arange(60) % 10
    x = torch.randn(10, 8)[labels] + 0.3 * torch.randn(60, 8)
    return TensorDataset(x, labels), pf.data.IdentityBatchSampler(labels, identities=5, items=4)


def test_it_trains_as_a_loop_does():
    data, batches = labeled()
    model = pf.SiameseComparator(nn.Linear(8, 4), "product")
    twin = copy.deepcopy(model)
    module = ComparatorModule(model, lambda p: torch.optim.SGD(p, lr=0.1))
    trainer(max_epochs=3).fit(module, DataLoader(data, batch_sampler=batches))
    assert not module.loss.distributed

    optimizer, loss = torch.optim.SGD(twin.parameters(), lr=0.1), pf.losses.AllPairsLoss(twin)
    for epoch in range(3):
        batches.set_epoch(epoch)
        for x, labels in DataLoader(data, batch_sampler=batches):
            optimizer.zero_grad()
            loss(twin.encode(x), labels).backward()
            optimizer.step()
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("right", [None, nn.Linear(8, 4)])
def test_validation_judges_all_pairs_of_all_batches(right):
    """In batches that have no positive pair by themselves, for one encoder and two."""
    data, batches = labeled()
    model = pf.SiameseComparator(nn.Linear(8, 4), "product", right_encoder=right)
    module = ComparatorModule(model, lambda p: torch.optim.AdamW(p, lr=1e-3))
    work = trainer(max_epochs=2)
    plain = DataLoader(data, batch_size=10)
    work.fit(module, DataLoader(data, batch_sampler=batches), plain)
    assert "train_loss" in work.logged_metrics
    report = pf.evaluate(model, *data.tensors)
    assert float(work.logged_metrics["val_auc"]) == pytest.approx(report.auc.value, abs=1e-4)
    assert float(work.logged_metrics["val_eer"]) == pytest.approx(report.eer.value, abs=1e-3)
    (tested,) = work.test(module, plain, verbose=False)
    assert tested == pytest.approx({"test_auc": report.auc.value, "test_eer": report.eer.value}, abs=1e-3)


def test_two_encoders_and_a_loss_of_your_own():
    data, batches = labeled()
    model = pf.SiameseComparator(nn.Linear(8, 4), "bilinear", right_encoder=nn.Linear(8, 4))
    before = copy.deepcopy(model.right_encoder)
    loss = pf.losses.AllPairsLoss(model, objective="bce")
    module = ComparatorModule(model, torch.optim.AdamW, loss)
    trainer(max_epochs=1).fit(module, DataLoader(data, batch_sampler=batches))
    assert module.loss is loss
    assert not torch.equal(before.weight, model.right_encoder.weight)
    assert module(*torch.randn(2, 3, 8)).shape == (3,)


def test_bad_input():
    with pytest.raises(TypeError, match="model to be a SiameseComparator, got Linear"):
        ComparatorModule(nn.Linear(3, 1), torch.optim.AdamW)


class Pairs(pytorch.LightningModule):
    """What a user of Lightning wrote before."""

    def __init__(self, fusion):
        super().__init__()
        self.model = pf.SiameseComparator(nn.Linear(8, 4), fusion, allow_additive=True)

    def forward(self, x1, x2):
        return self.model(x1, x2)

    def training_step(self, batch, batch_idx):
        x1, x2, y = batch
        return nn.functional.binary_cross_entropy_with_logits(self(x1, x2), y)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def four_pairs():
    torch.manual_seed(0)
    a, b = torch.randn(2, 8)
    pairs = TensorDataset(torch.stack([a, a, b, b]), torch.stack([a, b, a, b]), torch.tensor([1.0, 0.0, 0.0, 1.0]))
    return DataLoader(pairs, batch_size=4)


@pytest.mark.parametrize(("fusion", "stuck"), [("concat", True), ("product", False)])
def test_a_plateau_is_diagnosed_once(fusion, stuck, capsys):
    data, module = four_pairs(), Pairs(fusion)
    callback = PlateauCallback(steps=50)
    trainer(max_epochs=300, callbacks=[callback]).fit(module, data)
    assert (callback.diagnosis is not None) == stuck
    if stuck:
        assert callback.diagnosis.findings[0].id == "additive"
        assert capsys.readouterr().out.count("additive") >= 1
        assert module.training


def test_batches_of_another_kind():
    callback = PlateauCallback(steps=1)
    with pytest.raises(TypeError, match=r"batches \(x1, x2, y\), got list of 2"):
        callback.on_train_batch_end(None, None, torch.tensor(0.6931), [1, 2], 0)
