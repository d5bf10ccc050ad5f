"""Does every fusion learn black/white pairs, whatever the seed? The quick start's training, ten times.

python -m tests.benchmarks.black_white_seeds
"""

import argparse

from tqdm import tqdm

import pairfuse as pf
from examples.black_white import build, train

FUSIONS = ["product", "abs-diff", "bilinear", "default"]


def main() -> None:
    """Print one row per fusion."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--image-size", type=int, default=64)
    options = parser.parse_args()

    errors: dict[str, list[float]] = {fusion: [] for fusion in FUSIONS}
    for fusion in FUSIONS:
        for seed in tqdm(range(options.seeds), desc=fusion, leave=False):
            pairs = pf.data.BlackWhitePairs(16 * options.steps, options.image_size, seed=seed)
            model = build(fusion, seed)
            train(model, pairs, "cpu", f"{fusion} {seed}")
            x1, x2, y = pairs.truth_table()
            errors[fusion].append((model.predict_proba(x1, x2) - y).abs().max().item())

    print(f"Tied resnet18, {options.image_size} px, {options.steps} steps of 16 pairs, AdamW 3e-4, BCE on logits.\n")
    print("| fusion | seeds with all four right, \\|p − y\\| < 0.1 | median of the largest \\|p − y\\| | worst |")
    print("|---|---|---|---|")
    for fusion, worst in errors.items():
        learned = sum(error < 0.1 for error in worst)
        print(f"| {fusion} | {learned} of {len(worst)} | {sorted(worst)[len(worst) // 2]:.3f} | {max(worst):.3f} |")


if __name__ == "__main__":
    main()
