"""Series: are these two recordings of the same machine?

Every machine has its own speed and overtones, and no two recordings are alike: the load, the start and the noise
change. A small network learns to compare the recordings of 200 machines. A threshold is chosen on 100 others, and 100
more show that it holds. Then a new process loads the model and answers.

    python examples/series.py --plot series.png
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

import pairfuse as pf

RECORDINGS, LENGTH, OVERTONES = 8, 512, 6


def record(machines: int, seed: int) -> tuple[Tensor, Tensor]:
    """Make the recordings `(N, 1, 512)`, eight of each machine, and the number of the machine of each `(N,)`."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, 1, generator=generator)  # the last dimension is the time

    speed, loudness = 12 + 12 * uniform(machines, 1, 1), uniform(machines, 1, OVERTONES)  # of a machine
    speed = speed * (0.94 + 0.12 * uniform(machines, RECORDINGS, 1))  # under the load of a recording
    loudness = loudness * (0.75 + 0.5 * uniform(machines, RECORDINGS, OVERTONES))
    turns = torch.arange(1, OVERTONES + 1)[:, None] * speed * torch.linspace(0, 1, LENGTH)
    waves = loudness * (2 * torch.pi * (turns + uniform(machines, RECORDINGS, OVERTONES))).sin()
    sounds = waves.sum(2) + 0.5 * torch.randn(machines, RECORDINGS, LENGTH, generator=generator)
    return sounds.view(-1, 1, LENGTH), torch.arange(machines).repeat_interleave(RECORDINGS)


def build() -> pf.SiameseComparator:
    """Build the model: two convolutions along the time, the mean over the time, and the cosine of two embeddings."""
    encoder = nn.Sequential(
        *(nn.Conv1d(1, 32, 33, stride=2, padding=16), nn.BatchNorm1d(32), nn.ReLU(), nn.AvgPool1d(4)),
        *(nn.Conv1d(32, 64, 9, padding=4), nn.BatchNorm1d(64), nn.ReLU(), nn.AdaptiveAvgPool1d(1)),
        *(nn.Flatten(), nn.Linear(64, 32)),
    )
    return pf.SiameseComparator(encoder, "cosine")


def train(model: pf.SiameseComparator, recordings: Tensor, machines: Tensor, epochs: int) -> None:
    """Train on all pairs of batches of 16 machines with four recordings each."""
    batches = pf.data.IdentityBatchSampler(machines, identities=16, items=4)
    loader = DataLoader(TensorDataset(recordings, machines), batch_sampler=batches)
    loss_function = pf.losses.AllPairsLoss(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for epoch in tqdm(range(epochs), desc="training"):
        batches.set_epoch(epoch)
        for x, labels in loader:
            loss = loss_function(model.encode(x), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def draw(report: pf.evaluation.Report, model: pf.SiameseComparator, pairs: DataLoader[Any], path: Path) -> None:
    """Draw the report, and below it the spectra of eight pairs, one upwards and one downwards, with their answers."""
    x1, x2, y = next(iter(pairs))
    figure = plt.figure(figsize=(13, 7.5), layout="constrained")
    above, below = cast(Any, figure.subfigures(2, 1))
    report.plot(above)
    for axis, *pair, truth, same in zip(below.subplots(2, 4).flat, x1, x2, y == 1, model.same(x1, x2), strict=True):
        for sound, sign in zip(pair, (1, -1), strict=True):
            axis.bar(range(1, 151), (sign * torch.fft.rfft(sound[0]).abs()[1:151]).numpy(), width=1)
        words = ["same" if x else "different" for x in (truth, same)]
        axis.set_title(f"{words[0]}, called {words[1]}", color="black" if truth == same else "tab:red")
        axis.axis("off")
    figure.savefig(path, dpi=80)
    plt.close(figure)


def answer(path: str) -> None:
    """Load the model and compare new recordings: of two new machines, and of one machine with itself."""
    model = pf.SiameseComparator.from_pretrained(path)
    recordings, _ = record(machines=2, seed=1)
    one, other = recordings[:4], recordings[RECORDINGS : RECORDINGS + 4]
    print(f"In a new process: of one machine  {model.same(one, one.roll(1, 0)).tolist()}")
    print(f"                  of two machines {model.same(one, other).tolist()}")


def main(arguments: list[str] | None = None) -> None:
    """Train, decide, check the decision, save it and load it in a new process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--plot", type=Path, help="path for a picture of the report and of eight pairs")
    parser.add_argument("--load", help="only load the model in this folder and answer")
    options = parser.parse_args(arguments)
    if options.load:
        answer(options.load)
        return

    torch.manual_seed(0)
    recordings, machines = record(options.machines, seed=0)
    training, validation, test = pf.data.split_identities(machines, test_size=0.25, validation_size=0.25)
    model = build()
    train(model, recordings[training], machines[training], options.epochs)

    report = pf.evaluate(model, recordings[validation], machines[validation])
    model.decision = report.decide(far=0.01)
    print(f"{report}\n\n{model.decision}\n")

    tested = pf.evaluate(model, recordings[test], machines[test])
    far, tar = tested.at(model.decision.threshold)
    print(f"FAR where the threshold was chosen {model.decision.far}, on other machines {far}")
    print(f"TAR where the threshold was chosen {model.decision.tar}, on other machines {tar}\n", flush=True)

    if options.plot:
        pairs = pf.data.LabelledPairs(recordings[test], machines[test], length=8)
        draw(tested, model, DataLoader(pairs, batch_size=8), options.plot)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, report=report)
        subprocess.run([sys.executable, __file__, "--load", folder], check=True)


if __name__ == "__main__":
    main()
