"""Train a comparison on several GPUs, or in several processes, with PyTorch's DistributedDataParallel.

Every process encodes a batch of its own and compares it with the batches of all others: the loss is that of one process
with all these items. Then every process searches for its share of the queries. Process 0 prints. Without a GPU
the processes run on the CPU, so you can try the script anywhere.

    torchrun --nproc-per-node 2 examples/several_gpus.py
    python examples/several_gpus.py
"""

import os

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

import pairfuse as pf

EPOCHS, ITEMS = 10, 16  # items of each digit in a batch, over all processes


def start() -> torch.device:
    """Join the process group that torchrun describes in the environment, and return this process's device."""
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "1"), ("MASTER_ADDR", "localhost"), ("MASTER_PORT", "29501")):
        os.environ.setdefault(name, value)
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


class Step(nn.Module):
    """What DistributedDataParallel wraps: a module whose forward encodes and returns the loss."""

    def __init__(self, model: pf.SiameseComparator) -> None:
        super().__init__()
        self.model = model
        self.loss = pf.losses.AllPairsLoss(model, distributed=True)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of a batch, of which each process passes its share."""
        return self.loss(self.model.encode(x), labels)  # type: ignore[no-any-return]


def train(model: pf.SiameseComparator, images: Tensor, digits: Tensor, device: torch.device) -> float:
    """Train with a plain loop. Return the last loss, which is the same number in all processes."""
    batches = pf.data.IdentityBatchSampler(digits, identities=10, items=ITEMS // dist.get_world_size())
    loader = DataLoader(TensorDataset(images, digits), batch_sampler=batches)  # each process gets its own batches
    step = DistributedDataParallel(Step(model))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loss = torch.zeros(())
    for epoch in range(EPOCHS):
        batches.set_epoch(epoch)
        for x, labels in loader:
            loss = step(x.to(device), labels.to(device))
            optimizer.zero_grad()
            loss.backward()  # the gradients are averaged over the processes here
            optimizer.step()
    return loss.item()


def search(model: pf.SiameseComparator, queries: Tensor, gallery: Tensor) -> Tensor:
    """Return the best five of the gallery for each query. Every process searches for its share and gathers the rest."""
    share = queries.tensor_split(dist.get_world_size())[dist.get_rank()]
    found: list[Tensor | None] = [None] * dist.get_world_size()
    dist.all_gather_object(found, model.topk(share, gallery, k=5).indices.cpu())
    return torch.cat([part for part in found if part is not None])


def main() -> None:
    """Train, search and print the results."""
    device = start()
    torch.manual_seed(0)
    data = load_digits()
    images, digits = torch.tensor(data.data, dtype=torch.float32) / 16, torch.tensor(data.target)
    encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))
    model = pf.SiameseComparator(encoder, "cosine").to(device)
    loss = train(model, images[:1200], digits[:1200], device)
    found = search(model, images[1200:].to(device), images[:1200].to(device))
    right = (digits[found].mode(dim=1).values == digits[1200:]).float().mean()
    if dist.get_rank() == 0:
        print(f"{dist.get_world_size()} processes: loss {loss:.4f}, digit of five neighbors {right:.1%} right")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
