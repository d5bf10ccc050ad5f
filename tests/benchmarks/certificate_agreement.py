"""Do margins, certificates, linear programs and fractions agree? `python -m tests.benchmarks.certificate_agreement`.

For every registered fusion, Hypothesis draws pairs of embeddings on a grid, many in special positions, and four
ways decide whether a linear layer can tell same from different:

- the closed form: `xnor_margin(...) > 0`,
- the certificates, of the pair and of two classes: `xnor_certificate` and `class_certificate`,
- a linear program on the four points (HiGHS, from SciPy),
- rational arithmetic: what theory says of the embeddings, for weights that learn all they can; and, for weights on the
  grid as they were drawn, Gaussian elimination on the exact features, where the formula is rational.

Prints the cases and the disagreements, and fails if there is one.
"""

import argparse
import sys

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tqdm import tqdm

import pairfuse as pf
from pairfuse.testing.strategies import embedding_pairs
from tests.linear_program import separable_by_linear_program
from tests.oracles import ORACLES, exact, segments_meet


def verdicts(fusion: pf.Fusion, a: torch.Tensor, b: torch.Tensor) -> set[bool]:
    """What the closed form, the certificates and the linear program say: one answer, if they agree."""
    points = [fusion(u, v).detach().numpy() for u, v in ((a, a), (b, b), (a, b), (b, a))]
    program = separable_by_linear_program(np.stack(points[:2]), np.stack(points[2:]))
    pair = pf.xnor.xnor_certificate(fusion, a, b).separable
    classes = pf.xnor.class_certificate(fusion, torch.stack([a, b]), torch.arange(2)).separable
    return {bool(pf.xnor_margin(fusion, a, b) > 0), pair, classes, program}


def drawn_weights(name: str, width: int, numbers: list[int]) -> pf.Fusion:
    """A fusion in float64 whose parameters are small grid numbers, so that its features are exact."""
    fusion = pf.make_fusion(name, width, **ORACLES[name].options[-1]).double()
    taken = iter(numbers * 100)
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.copy_(torch.tensor([next(taken) / 4 for _ in range(parameter.numel())]).view_as(parameter))
    return fusion


def count(name: str, cases: int) -> tuple[int, int, int]:
    """The cases, the disagreements, and how many of the cases are separable."""
    oracle, tally = ORACLES[name], [0, 0, 0]

    def note(answers: set[bool], truth: bool) -> None:
        tally[0] += 1
        tally[1] += answers != {truth}
        tally[2] += truth

    @settings(
        max_examples=cases,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(pair=embedding_pairs(), numbers=st.lists(st.integers(-8, 8), min_size=7, max_size=7))
    def run(pair: tuple[torch.Tensor, torch.Tensor], numbers: list[int]) -> None:
        a, b = pair
        fusion = oracle.trained(a, b) if oracle.trained else pf.make_fusion(name, len(a)).double()
        note(verdicts(fusion, a, b), oracle.learns_xnor(exact(a), exact(b)))
        if oracle.trained and oracle.rational:
            fusion = drawn_weights(name, len(a), numbers)
            points = [oracle.values(fusion, exact(u), exact(v)) for u, v in ((a, a), (b, b), (a, b), (b, a))]
            note(verdicts(fusion, a, b), not segments_meet(*points))

    run()
    return tally[0], tally[1], tally[2]


def main() -> None:
    """Print one row for each fusion."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1200, help="how many to draw for each fusion")
    options = parser.parse_args()

    results = {name: count(name, options.cases) for name in tqdm(pf.list_fusions())}
    print("| fusion | cases | of them separable | disagreements |")
    print("|---|---|---|---|")
    for name, (cases, disagreements, separable) in results.items():
        print(f"| `{name}` | {cases:,} | {separable:,} | {disagreements} |")
    cases, disagreements, separable = (sum(column) for column in zip(*results.values(), strict=True))
    print(f"| all | {cases:,} | {separable:,} | {disagreements} |")
    sys.exit(disagreements > 0)


if __name__ == "__main__":
    main()
