"""The registry of the laws, in the order in which they run."""

from pairfuse.testing import algebra, behavior
from pairfuse.testing.law import Law

# Simple faults break many laws. The first law that fails should explain the fault best.
LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        Law(behavior.declaration),
        Law(behavior.leaves_inputs),
        Law(behavior.deterministic),
        Law(behavior.finite),
        Law(behavior.rows),
        Law(behavior.shapes),
        Law(behavior.large_batches),
        Law(behavior.two_widths, behavior.takes_one_width),
        Law(behavior.refuses_what_does_not_fit),
        Law(behavior.dtype),
        Law(algebra.symmetry, algebra.symmetry_cannot_show),
        Law(algebra.additivity),
        Law(algebra.xnor, algebra.xnor_cannot_show),
        Law(algebra.xnor_with_sum, algebra.no_xnor_with_sum),
        Law(algebra.spans_sum, algebra.no_spans_sum),
        Law(algebra.feature_means, algebra.no_feature_means),
        Law(algebra.translation, algebra.no_translation),
        Law(algebra.terms, algebra.no_terms),
        Law(algebra.all_pairs),
        Law(behavior.gradients),
        Law(behavior.gradient_at_equal, algebra.two_different_widths),
        Law(behavior.trains),
        Law(behavior.state),
        Law(behavior.compiles),
        Law(behavior.device),
    )
}
