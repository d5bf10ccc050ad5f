"""The two halves of a search as modules: encode queries, encode a gallery, score all pairs of the two."""

from typing import Any, NamedTuple

from torch import Tensor, nn
from typing_extensions import override

from pairfuse._layers import check_initialized, check_rows_apart
from pairfuse._modes import frozen_copy
from pairfuse._sets import make_scorer, squeeze_single_output
from pairfuse.items.batches import Batch, add_batch_dimension
from pairfuse.items.tower import Side, Tower
from pairfuse.scoring import InnerProductForm


class SearchModules(NamedTuple):
    """A search in three modules. Made by `SiameseComparator.search_modules`.

    `scorer(query_encoder(queries), gallery_encoder(items))` are the scores of all pairs, as `score_matrix` returns
    them, up to rounding. All three are snapshots in eval mode: later training does not change them.

    Attributes:
        query_encoder: Left items to vectors `(N, S)`.
        gallery_encoder: Right items to vectors `(M, S2)`. Run it once for each item, and store the vectors.
        scorer: Vectors `(N, S)` and `(M, S2)` to logits `(N, M)`; `(N, M, K)` if the head has K > 1 outputs.
    """

    query_encoder: nn.Module
    gallery_encoder: nn.Module
    scorer: nn.Module


class VectorEncoder(nn.Module):
    """One half of a search: items to vectors.

    Args:
        tower: The encoder, its width and its items.
        side: The side that the items are on.
        form: If given, the vectors are those of an inner product; otherwise the embeddings.
    """

    def __init__(self, tower: Tower, side: Side, form: InnerProductForm | None) -> None:
        super().__init__()
        self.encoder, self.width, self.item_ndim = tower
        self.side = side
        self.fusion = None if form is None else form.fusion
        for name in ("weight", "constant", "origin", "scale"):  # buffers move to a device with the module
            self.register_buffer(name, None if form is None else getattr(form, name))

    @override
    def forward(self, items: Batch) -> Tensor:
        """Return the vectors `(N, S)` of N items; `(S,)` of a single item if `item_ndim` is known."""
        tower = Tower(self.encoder, self.width, self.item_ndim)
        single = tower.is_single("items", items)
        vectors = tower.encode(add_batch_dimension(items) if single else items, name="items")
        if self.fusion is not None:
            parts: Any = (self.weight, self.constant, self.origin, self.scale)
            form = InnerProductForm(self.fusion, *parts)
            vectors = form.to_query(vectors) if self.side == "left" else form.to_gallery(vectors)
        return vectors.squeeze(0) if single else vectors


class AllPairsScorer(nn.Module):
    """Score all pairs of two sets of embeddings by the fusion and the head. Half precision is scored in float32.

    Args:
        model: A comparator, frozen.
    """

    embedding_scale: Tensor | None

    def __init__(self, model: Any) -> None:
        super().__init__()
        parameters = [*model.fusion.parameters(), *model.head.parameters()]
        if any(parameter.dtype.itemsize < 4 for parameter in parameters):
            model = frozen_copy("search_modules", model).float()
        self.fusion, self.head = model.fusion, model.head
        self.register_buffer("embedding_scale", model.embedding_scale)

    @override
    def forward(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """Return the logits `(N, M)` or `(N, M, K)` of embeddings `(N, D)` and `(M, D2)`."""
        return squeeze_single_output(make_scorer("scorer", self, queries, gallery).matrix())


class InnerProductScorer(nn.Module):
    """Score all pairs of query and gallery vectors by their inner products.

    Args:
        constant: The number `()` that is added.
    """

    constant: Tensor

    def __init__(self, constant: Tensor) -> None:
        super().__init__()
        self.register_buffer("constant", constant)

    @override
    def forward(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """Return the logits `(N, M)` of vectors `(N, S)` and `(M, S)`."""
        return queries @ gallery.mT + self.constant


def search_modules(model: Any, *, inner_product: bool = False, origin: Tensor | None = None) -> SearchModules:
    """Return the modules of a search with a comparator; `SiameseComparator.search_modules` documents the arguments."""
    if origin is not None and not inner_product:
        raise ValueError("search_modules expects no origin with inner_product=False, got one: pass inner_product=True")
    check_initialized("search_modules", model)
    try:
        form = model.inner_product_form(origin=origin) if inner_product else None
    except ValueError as error:
        raise ValueError(str(error).replace("inner_product_form", "search_modules(inner_product=True)", 1)) from None
    still = frozen_copy("search_modules", model)
    check_rows_apart("search_modules", still)
    scorer = AllPairsScorer(still) if form is None else InnerProductScorer(form.constant)
    left, right = (VectorEncoder(still._tower(side), side, form) for side in ("left", "right"))
    modules = SearchModules(left, right, scorer)
    for module in modules:
        module.training = False  # as all parts are; an exported encoder does not know eval()
    return modules
