"""The part of a comparator that solves its head instead of training it."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from pairfuse._modes import eval_mode
from pairfuse._sets import encode_items
from pairfuse.fusions import Fusion
from pairfuse.items.reading import Items, known_length
from pairfuse.solving.reading import Embeddings, StreamedEmbeddings
from pairfuse.solving.report import SolvedHead
from pairfuse.solving.solve import FOLDS, check_labeled, check_solvable, solve_model


class Solving(nn.Module):
    """Solves a linear head from the moments of all pairs."""

    fusion: Fusion

    @torch.no_grad()
    def solve_head(
        self,
        items: Items,
        labels: Any,
        *,
        same_prior: float = 0.5,
        shrinkage: float | str = "auto",
        folds: int = FOLDS,
        seed: int = 0,
        batch_size: int = 256,
        progress: bool = False,
    ) -> SolvedHead:
        """Solve the linear head from labeled items, with the encoder as it is. No training, and no pairs are needed.

        Each item is encoded once, in eval mode. How the head is solved depends on the fusion:

        - **Sums of products** (`"product"`, `"squared-diff"`, `"cosine"`, bilinear and low-rank forms with the
          projections that they have, and stacks of these): weighted least squares over *all* pairs, from sums over the
          items. It costs about as much as a matrix product with the embeddings.
        - **`"quadratic"`**: the two-covariance model (PLDA). P, Q and the center of the fusion are set.
        - **All others**, such as `"abs-diff"`, `"max"` and the default `"symmetric"`: logistic regression on all same
          pairs, as far as memory allows, and as many drawn different pairs.

        The solution may fit the given identities too well, so it is shrunk towards the unlearned comparison of the
        fusion: an inner product, a distance or a cosine. With `shrinkage="auto"` identities that are held out decide
        how far. Unless they clearly speak for the solution, by more than a standard error, the unlearned comparison
        stays. Then the scores become logits that are calibrated on the same held-out identities, for the given share of
        same pairs, so that `predict_proba` means something. The report says what was solved and what it gained.

        It sets `embedding_scale` as `start_head` does, and removes the decision. You may train the model afterwards.

        A `Dataset` with `__getitem__` and `__len__` is read identity by identity, so its embeddings need not fit into
        memory, unless the fusion is one of "all others".

        Args:
            items: N items, as for `encode_items`.
            labels: Their identities, N integers; -1 means unlabeled and is left out.
            same_prior: Share of same pairs where the model is used. Probabilities are for it.
            shrinkage: `"auto"`, or a number from 0 (the solution) to 1 (the unlearned comparison).
            folds: Number of parts of the identities that are held out in turn. Fewer if there are few identities.
            seed: The same data and seed give the same solution.
            batch_size: Number of items that the encoder gets at a time.
            progress: If True, show a progress bar while encoding.

        Returns:
            A report; `print` it.

        Raises:
            TypeError: The head is not one linear layer with one output; or an argument is of the wrong kind.
            ValueError: The fusion is additive, there are two encoders, fewer than two identities, no identity with two
                items, labels do not fit, an embedding is NaN or infinite, or all are equal.

        References:
            Fisher, *The use of multiple measurements in taxonomic problems*, Annals of Eugenics 1936.
            Brümmer and de Villiers, *The speaker partitioning problem*, Odyssey 2010.

        Examples:
            >>> import torch, pairfuse as pf
            >>> labels = torch.arange(600) % 200
            >>> items = torch.randn(200, 16)[labels] + torch.linspace(0.1, 3, 16) * torch.randn(600, 16)
            >>> model = pf.SiameseComparator(torch.nn.Identity(), "quadratic", embedding_dim=16)
            >>> report = model.solve_head(items, labels)
            >>> report.auc > report.unlearned_auc
            True
        """
        check_solvable("solve_head", self)
        labels = check_labeled("solve_head", labels, known_length(items))
        streamed = _is_data_set(items) and self.fusion.fast_path

        def encode(some: Items) -> Tensor:
            return encode_items(self, "items", some, "left", batch_size, progress)

        def source_of(fold: Tensor) -> Embeddings | StreamedEmbeddings:
            if streamed:
                return StreamedEmbeddings(lambda at: encode(Subset(items, at.tolist())), labels, fold)  # type: ignore[arg-type]
            embeddings = encode(items)
            check_labeled("solve_head", labels, len(embeddings))
            return Embeddings(embeddings, labels)

        options: dict[str, Any] = {"same_prior": same_prior, "shrinkage": shrinkage, "folds": folds, "seed": seed}
        with eval_mode(self) as model:
            return solve_model(model, source_of, labels, **options)


def _is_data_set(items: Items) -> bool:
    """True for a data set whose items can be read in any order."""
    plain = isinstance(items, Dataset) and not isinstance(items, (DataLoader, IterableDataset))
    return plain and hasattr(items, "__getitem__") and hasattr(items, "__len__")
