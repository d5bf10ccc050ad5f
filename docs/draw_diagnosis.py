"""Draw the figure of a diagnosis: `python docs/draw_diagnosis.py`.

It shows sixteen digits of four classes, sorted by class, after training. Same digits lie along the diagonal.
"""

from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

import pairfuse as pf

IMAGE = Path(__file__).parent / "images" / "diagnosis.png"
CLASSES = 4


def main() -> None:
    """Train a comparator on pairs of digits and draw its diagnosis."""
    torch.manual_seed(0)
    images, labels = map(torch.as_tensor, load_digits(n_class=CLASSES, return_X_y=True))
    images = images.float() / 16
    encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
    model = pf.SiameseComparator(encoder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(300):
        some = torch.randint(len(images), (32,))
        u = model.encode(images[some])
        same = (labels[some, None] == labels[some]).float()
        loss = nn.functional.binary_cross_entropy_with_logits(model.score_embeddings(u, u), same)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    shown = torch.cat([(labels == digit).nonzero().flatten()[:4] for digit in range(CLASSES)])
    items = images[shown]
    diagnosis = pf.diagnose(model, items[0::2], items[1::2])
    diagnosis.plot().savefig(IMAGE, dpi=120)


if __name__ == "__main__":
    main()
