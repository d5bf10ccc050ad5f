"""Train a comparison on several GPUs, or in several processes, with PyTorch's DistributedDataParallel.

Every process trains on its share of each batch and searches for its share of the queries. Process 0 prints. Without a
GPU the processes run on the CPU, so you can try the script anywhere.

    torchrun --nproc-per-node 2 examples/several_gpus.py
    python examples/several_gpus.py
"""

import os

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import pairfuse as pf

EPOCHS, PAIRS, BATCH = 20, 4096, 256  # pairs in total, and per step over all processes


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


def draw_pairs(images: Tensor, digits: Tensor) -> TensorDataset:
    """Draw as many same as different pairs. All processes draw the same pairs, because the seed is fixed."""
    generator = torch.Generator().manual_seed(0)
    i, j = torch.randint(len(digits), (2, 20 * PAIRS), generator=generator)
    same = digits[i] == digits[j]
    kept = torch.cat([(same & (i != j)).nonzero()[: PAIRS // 2, 0], (~same).nonzero()[: PAIRS // 2, 0]])
    return TensorDataset(images[i[kept]], images[j[kept]], same[kept].float())


def train(model: nn.Module, pairs: TensorDataset, device: torch.device) -> float:
    """Train with a plain loop; the sampler gives each process its share. Return the mean loss of the last epoch."""
    sampler: DistributedSampler[tuple[Tensor, ...]] = DistributedSampler(pairs, shuffle=True)
    loader = DataLoader(pairs, batch_size=BATCH // dist.get_world_size(), sampler=sampler)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    loss_function = nn.BCEWithLogitsLoss()
    mean = torch.zeros((), device=device)
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)  # without this, every epoch has the same order
        mean.zero_()
        for x1, x2, y in loader:
            loss = loss_function(model(x1.to(device), x2.to(device)), y.to(device))
            optimizer.zero_grad()
            loss.backward()  # the gradients are averaged over the processes here
            optimizer.step()
            mean += loss.detach() / len(loader)
    dist.all_reduce(mean)
    return mean.item() / dist.get_world_size()


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
    model = pf.SiameseComparator(encoder, "product").to(device)
    loss = train(DistributedDataParallel(model), draw_pairs(images[:1200], digits[:1200]), device)
    found = search(model, images[1200:].to(device), images[:1200].to(device))
    right = (digits[found].mode(dim=1).values == digits[1200:]).float().mean()
    if dist.get_rank() == 0:
        print(f"{dist.get_world_size()} processes: loss {loss:.4f}, digit of five neighbors {right:.1%} right")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
