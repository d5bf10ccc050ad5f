"""Search a gallery by a comparator's scores with a faiss index. Needs the extra `faiss`."""

from typing import Any

import torch

from pairfuse._checks import check_finite, check_int, check_top_k, require_package
from pairfuse._sets import encode_items
from pairfuse.comparator import SiameseComparator
from pairfuse.items.reading import Items
from pairfuse.items.tower import Side
from pairfuse.scoring import TopK, check_scores

__all__ = ["FaissIndex"]


class FaissIndex:
    """An exact inner-product index of a gallery (`faiss.IndexFlatIP`), with the scores of `model.topk`.

    Every gallery item is encoded once and stored as the vector that `model.inner_product_form` computes. Training the
    model does not change the index: build a new one.

    Args:
        model: A comparator whose scores are inner products: a separable fusion and a linear head with one output.
        gallery: M right items, as for `SiameseComparator.topk`.
        batch_size: Number of items that the encoder gets at a time.
        progress: If True, show a progress bar; needs tqdm.

    Attributes:
        model: The comparator. It encodes the queries.
        form: The `InnerProductForm` of the scores.
        index: The faiss index, for `faiss.write_index` and other functions of faiss.

    Raises:
        ImportError: faiss is not installed.
        TypeError: The model is not a `SiameseComparator`, or the items are of the wrong kind.
        ValueError: The model's scores are not inner products, there are no items, or an embedding is not finite.

    References:
        Johnson, Douze and Jégou, *Billion-scale similarity search with GPUs*, 2017, arXiv:1702.08734.

    Examples:
        >>> import torch, pairfuse as pf
        >>> model = pf.SiameseComparator(torch.nn.Linear(8, 4), "squared-diff")
        >>> gallery, queries = torch.randn(100, 8), torch.randn(3, 8)
        >>> index = pf.index.FaissIndex(model, gallery)
        >>> values, indices = index.search(queries, k=5)
        >>> torch.equal(indices, model.topk(queries, gallery, k=5).indices)
        True
    """

    def __init__(
        self, model: SiameseComparator, gallery: Items, *, batch_size: int = 256, progress: bool = False
    ) -> None:
        if not isinstance(model, SiameseComparator):
            raise TypeError(f"FaissIndex expects model to be a SiameseComparator, got {type(model).__name__}")
        faiss: Any = require_package("faiss", "faiss")
        self.model = model
        try:
            model.inner_product_form()  # before anything is encoded
        except ValueError as error:
            raise ValueError(str(error).replace("inner_product_form", "FaissIndex", 1)) from None
        v = self._embed("gallery", gallery, "right", batch_size, progress)
        origin = v.mean(0) if model.fusion.in_features == model.fusion.in2_features else None
        self.form = model.inner_product_form(origin=origin)
        self.index: Any = faiss.IndexFlatIP(self.form.features)
        for block in torch.split(v, 65_536):
            self.index.add(self.form.to_gallery(block).float().numpy(force=True))

    def __len__(self) -> int:
        """Return the number of items M."""
        return int(self.index.ntotal)

    def search(self, queries: Items, k: int, *, batch_size: int = 256, progress: bool = False) -> TopK:
        """Return the k items with the highest scores for each query.

        Args:
            queries: N left items.
            k: Number of items to find, at most M.
            batch_size: Number of items that the encoder gets at a time.
            progress: If True, show a progress bar; needs tqdm.

        Returns:
            `(values, indices)`, both `(N, k)`, best first, on the CPU. They equal those of `model.topk` up to rounding;
            values are float32.

        Raises:
            TypeError: The items are of the wrong kind.
            ValueError: k is larger than the gallery, there are no items, or an embedding is not finite.
        """
        k = check_int("search", "k", k)
        check_top_k("search", k, None, len(self), exclude_self=False)
        u = self._embed("queries", queries, "left", batch_size, progress)
        values, indices = self.index.search(self.form.to_query(u).float().numpy(force=True), k)
        found = TopK(torch.from_numpy(values) + self.form.constant.float().cpu(), torch.from_numpy(indices))
        check_scores("search", found.values.where(found.indices >= 0, -torch.inf))  # faiss marks an overflow with -1
        return found

    def _embed(self, name: str, items: Items, side: Side, batch_size: int, progress: bool) -> torch.Tensor:
        embeddings = encode_items(self.model, name, items, side, batch_size, progress)
        check_finite("FaissIndex", **{name: embeddings})
        return embeddings
