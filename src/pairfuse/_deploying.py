"""The part of a comparator that becomes small modules, to export or to serve."""

from torch import Tensor, nn

from pairfuse.decider import Decider
from pairfuse.decisions import Decision
from pairfuse.search_modules import SearchModules, search_modules


class Deploying(nn.Module):
    """Frozen copies of a comparator: one that decides, and the halves of a search."""

    def _current_decision(self, owner: str) -> Decision | None:
        """Return the decision, if it is of the present fusion and head."""
        raise NotImplementedError

    def decider(self) -> Decider:
        """Return the model with its decision as one module `(x1, x2)` → `(probability, same)`, to export or to serve.

        This is a snapshot: later training, or another decision, does not change it.

        Returns:
            A [`Decider`][pairfuse.decider.Decider] in eval mode.

        Raises:
            ValueError: The model has no decision, a layer is lazy and has not run yet, or a batch norm has no running
                statistics.
        """
        decision = self._current_decision("decider")
        if decision is None:
            raise ValueError(
                "decider expects a model with a decision, got none: set "
                "model.decision = pf.evaluate(model, items, labels).decide(far=0.01). To export logits, export the "
                "model itself"
            )
        return Decider(self, decision)

    def search_modules(self, *, inner_product: bool = False, origin: Tensor | None = None) -> SearchModules:
        """Return a search in three modules, to export or to serve: two encoders, and a scorer of all pairs.

        This is a snapshot: later training does not change it.

        Args:
            inner_product: If True, the encoders return the vectors of `inner_product_form`, for an index. If False,
                they return embeddings, which any fusion and head can score.
            origin: As for `inner_product_form`; only with `inner_product=True`.

        Returns:
            [`SearchModules`][pairfuse.search_modules.SearchModules]: `(query_encoder, gallery_encoder, scorer)`.

        Raises:
            ValueError: `inner_product=True`, and `inner_product_form` raises it; a layer is lazy and has not run yet;
                or a batch norm has no running statistics.

        Examples:
            >>> import torch, pairfuse as pf
            >>> model = pf.SiameseComparator(torch.nn.Linear(8, 4))
            >>> queries, items = torch.randn(3, 8), torch.randn(5, 8)
            >>> query_encoder, gallery_encoder, scorer = model.search_modules()
            >>> scores = scorer(query_encoder(queries), gallery_encoder(items))
            >>> torch.allclose(scores, model.score_matrix(queries, items), atol=1e-5)
            True
        """
        return search_modules(self, inner_product=inner_product, origin=origin)
