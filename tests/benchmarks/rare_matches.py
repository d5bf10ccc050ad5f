"""Rare matches: what a model trained on half-positive pairs does on two tables.

`python -m tests.benchmarks.rare_matches`
Two tables of 2,450 records of FEBRL 4: six million pairs, of which 2,450 are matches. Models are trained on 1,550 other
people. Thresholds are chosen on 1,000 people more. Prints a table of the pairs that are called the same.
"""

import math

import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import pairfuse as pf
from examples import texts as example

SEED, STEPS, WIDTH = 0, 1000, 256
Sides = tuple[Tensor, Tensor]


def count_ngrams(texts: list[list[str]], training: Tensor) -> Sides:
    """Character n-grams of both tables `(5000, 256)`, weighted and reduced as the training records ask for."""
    weigh = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 3), min_df=2, sublinear_tf=True)
    reduce = TruncatedSVD(WIDTH, random_state=SEED)
    reduce.fit(weigh.fit_transform([table[i] for table in texts for i in training]))
    left, right = (torch.tensor(reduce.transform(weigh.transform(x)), dtype=torch.float32) for x in texts)
    return nn.functional.normalize(left) * 16, nn.functional.normalize(right) * 16


def build(fusion: str) -> pf.SiameseComparator:
    torch.manual_seed(SEED)
    return pf.SiameseComparator(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 64)), fusion)


def train_on_pairs(model: pf.SiameseComparator, pairs: DataLoader) -> None:
    loss_function, optimizer = nn.BCEWithLogitsLoss(), torch.optim.AdamW(model.parameters(), lr=1e-3)
    for x1, x2, y in pairs:
        loss = loss_function(model(x1, x2), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def random_pairs(left: Tensor, right: Tensor) -> DataLoader:
    """Half of the pairs are of one person, the others of two people drawn at random."""
    persons = torch.arange(len(left)).repeat(2)
    return DataLoader(pf.data.LabelledPairs(torch.cat([left, right]), persons, length=64 * STEPS), batch_size=64)


def hard_pairs(model: pf.SiameseComparator, left: Tensor, right: Tensor, k: int = 10) -> DataLoader:
    """Half of the pairs are of one person. The others are records with their nearest ones of other people."""
    nearest = model.topk(left, right, k=k + 1).indices
    rows, columns = (nearest != torch.arange(len(left))[:, None]).nonzero(as_tuple=True)
    negatives = torch.stack([rows, nearest[rows, columns]], 1)
    matches = torch.arange(len(left)).repeat(-(-len(negatives) // len(left)))[: len(negatives)]
    index = torch.cat([negatives, torch.stack([matches, matches], 1)])
    targets = torch.arange(len(index)) // len(negatives) * 1.0
    pairs = TensorDataset(left[index[:, 0]], right[index[:, 1]], targets)
    return DataLoader(pairs, batch_size=64, shuffle=True, generator=torch.Generator().manual_seed(SEED))


def train_on_all_pairs(model: pf.SiameseComparator, left: Tensor, right: Tensor) -> None:
    x, persons = torch.cat([left, right]), torch.arange(len(left)).repeat(2)
    batches = pf.data.IdentityBatchSampler(persons, identities=64, items=2)
    loss_function, optimizer = pf.losses.AllPairsLoss(model), torch.optim.AdamW(model.parameters(), lr=1e-3)
    for epoch in range(30):
        batches.set_epoch(epoch)
        for items, labels in DataLoader(TensorDataset(x, persons), batch_sampler=batches):
            loss = loss_function(model.encode(items), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def evaluate(model: pf.SiameseComparator, left: Tensor, right: Tensor) -> pf.evaluation.Report:
    """Of all pairs of a left and a right record; row i of both is of one person."""
    persons = torch.arange(len(left))
    return pf.evaluate(model, left, persons, items2=right, labels2=persons)


def main() -> None:
    texts, people = example.load(5000), torch.arange(5000)
    training, validation, test = pf.data.split_identities(people, test_size=0.49, validation_size=0.2, seed=SEED)
    sentences, ngrams = tuple(example.embed(table) for table in texts), count_ngrams(texts, training)
    frozen = pf.SiameseComparator(nn.Identity(), embedding_dim=384)
    train_on_pairs(frozen, random_pairs(*(x[training] for x in sentences)))
    left, right = (x[training] for x in ngrams)
    half, hard, all_pairs = build("symmetric"), build("symmetric"), build("cosine")
    train_on_pairs(half, random_pairs(left, right))
    hard.load_state_dict(half.state_dict())
    train_on_pairs(hard, hard_pairs(half, left, right))
    train_on_all_pairs(all_pairs, left, right)

    prior = 1 / len(test)
    print("| training | AUC | called the same if | pairs | of them right | matches found | false matches expected |")
    print("|---|---|---|---|---|---|---|")
    models = {
        "frozen sentence embeddings, half-positive pairs": (frozen, sentences),
        "n-grams, half-positive pairs": (half, ngrams),
        "n-grams, then hard negatives": (hard, ngrams),
        "n-grams, all pairs of batches": (all_pairs, ngrams),
    }
    for name, (model, sides) in models.items():
        report, tested = (evaluate(model, *(x[part] for x in sides)) for part in (validation, test))
        precise = report.decide(precision=0.95, prior=prior)
        decision = report.decide(far=1e-4, prior=prior)
        platt = decision.calibration
        even = -(platt.intercept + math.log(prior / (1 - prior))) / platt.slope
        rows = {
            "the logit is above 0": (0.0, report.at(0.0)[0].value),
            f"p > ½ at prior 1/{len(test):,}": (even, report.at(even)[0].value),
            "precision 0.95": (precise.threshold, precise.far.value),
        }
        for rule, (threshold, expected) in rows.items():
            if model is all_pairs and rule.startswith("the logit"):
                continue  # this loss does not place 0 between same and different
            far, tar = (x.value for x in tested.at(threshold))
            false, right_ones = far * tested.negatives, tar * tested.positives
            share = right_ones / max(1.0, false + right_ones)
            print(
                f"| {name} | {tested.auc.value:.4f} | {rule} | {false + right_ones:,.0f} | {share:.1%} | {tar:.1%} | "
                f"{expected * tested.negatives:,.0f}, seen {false:,.0f} |"
            )


if __name__ == "__main__":
    main()
