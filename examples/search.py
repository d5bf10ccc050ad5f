"""Train a comparison of digits, then search with it: all pairs, the best of a gallery, a faiss index.

A small network embeds 8 × 8 images, the fusion squares the differences of two embeddings, and one linear layer answers
"same digit" or "different". A batch of 64 images trains on all its 4,096 pairs. Then each test image finds its nearest
five training images with the learned comparison itself, and these five vote.

    python examples/search.py
    python examples/search.py --epochs 5 --plot digits.png
"""

import argparse
import tempfile
from pathlib import Path

import faiss
import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from tqdm import tqdm

import pairfuse as pf

NEIGHBORS = 5


def load(seed: int) -> list[Tensor]:
    """Load 1,797 images of digits from scikit-learn: gallery and query images in [0, 1], and their digits."""
    images, digits = load_digits(return_X_y=True)
    parts = train_test_split(images / 16, digits, test_size=0.3, random_state=seed, stratify=digits)
    return [torch.as_tensor(part, dtype=torch.float32 if part.ndim == 2 else torch.int64) for part in parts]


def train(model: pf.SiameseComparator, images: Tensor, digits: Tensor, epochs: int) -> None:
    """Train: each batch is encoded once and all its pairs are scored, 4,096 pairs for 64 images."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in tqdm(range(epochs), desc="training"):
        for batch in torch.split(torch.randperm(len(images)), 64):
            embeddings = model.encode(images[batch])
            same = (digits[batch, None] == digits[batch]).float()
            loss_function = nn.BCEWithLogitsLoss(pos_weight=(1 - same).sum() / same.sum())  # one pair in ten is same
            loss = loss_function(model.score_embeddings(embeddings, embeddings), same)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def vote(digits: Tensor, indices: Tensor) -> Tensor:
    """Return the digit that most of the neighbors show."""
    return digits[indices].mode(dim=1).values


def draw(images: list[Tensor], digits: list[Tensor], found: pf.scoring.TopK, right: Tensor, path: Path) -> None:
    """Draw queries above their neighbors, with scores: up to four with a wrong vote, in red, then some others."""
    (gallery, queries), (gallery_digits, query_digits) = images, digits
    order = right.long().argsort(stable=True)
    wrong = min(4, int((~right).sum()))
    shown = torch.cat([order[:wrong], order[len(order) - 8 + wrong :]]).tolist()
    figure, axes = plt.subplots(1 + NEIGHBORS, len(shown), figsize=(8, 6.4), layout="constrained")
    for column, query in zip(axes.T, shown, strict=True):
        hits, scores = found.indices[query], found.values[query]
        labels = [f"query: {query_digits[query]}"]
        labels += [f"{digit}, score {score:.1f}" for digit, score in zip(gallery_digits[hits], scores, strict=True)]
        for axis, image, label in zip(column, [queries[query], *gallery[hits]], labels, strict=True):
            axis.imshow(image.view(8, 8).numpy(), cmap="gray_r")
            axis.set_title(label, fontsize=8, color="black" if right[query] else "tab:red")
            axis.axis("off")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> None:
    """Train, search in three ways, compare the results and draw them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, help="path for a picture of eight queries and their neighbors")
    options = parser.parse_args(arguments)

    torch.manual_seed(options.seed)
    gallery, queries, gallery_digits, query_digits = load(options.seed)
    encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))
    model = pf.SiameseComparator(encoder, "squared-diff")
    train(model, gallery, gallery_digits, options.epochs)

    scores = model.score_matrix(queries, gallery)  # all pairs, each image encoded once
    same = query_digits[:, None] == gallery_digits
    hits, rejections = (scores[same] > 0).float().mean(), (scores[~same] <= 0).float().mean()
    print(f"{scores.numel():,} pairs: {hits:.1%} of the same and {rejections:.1%} of the different are right")

    found = model.topk(queries, gallery, k=NEIGHBORS)  # block by block, never the whole matrix
    by_score = vote(gallery_digits, found.indices) == query_digits
    print(f"digit of {NEIGHBORS} neighbors: {by_score.float().mean():.1%} right")  # codespell:ignore neighbors

    index = pf.index.FaissIndex(model, gallery)  # the same scores as inner products
    print(f"faiss finds the same: {torch.equal(index.search(queries, NEIGHBORS).indices, found.indices)}")

    with tempfile.TemporaryDirectory() as folder:  # a server needs the index and vectors for the queries
        path = str(Path(folder) / "gallery.faiss")
        faiss.write_index(index.index, path)
        vectors = index.form.to_query(model.encode_items(queries))
        values, indices = faiss.read_index(path).search(vectors.numpy(), NEIGHBORS)
    same_ids = torch.equal(torch.from_numpy(indices), found.indices)
    gap = (torch.from_numpy(values) + index.form.constant - found.values).abs().max()
    print(f"from the file on disk: the same: {same_ids}, scores apart by {gap:.0e} at most")

    if options.plot:
        draw([gallery, queries], [gallery_digits, query_digits], found, by_score, options.plot)


if __name__ == "__main__":
    main()
