"""The probes, each of which looks for one fault; causes stand before what they cause."""

from collections.abc import Callable

from pairfuse.diagnosis.probes.additive import additive
from pairfuse.diagnosis.probes.asymmetric import asymmetric
from pairfuse.diagnosis.probes.batch_dependence import batch_dependence
from pairfuse.diagnosis.probes.bounded_output import bounded_output
from pairfuse.diagnosis.probes.broadcast import broadcast
from pairfuse.diagnosis.probes.collapsed_embeddings import collapsed_embeddings
from pairfuse.diagnosis.probes.constant_output import constant_output
from pairfuse.diagnosis.probes.dead_branch import dead_branch
from pairfuse.diagnosis.probes.double_sigmoid import double_sigmoid
from pairfuse.diagnosis.probes.frozen import frozen
from pairfuse.diagnosis.probes.head_not_in_optimizer import head_not_in_optimizer
from pairfuse.diagnosis.probes.ignored_input import ignored_input
from pairfuse.diagnosis.probes.labels import labels
from pairfuse.diagnosis.probes.nan_gradient import nan_gradient
from pairfuse.diagnosis.probes.not_finite import not_finite
from pairfuse.diagnosis.probes.pinned_score import pinned_score
from pairfuse.diagnosis.probes.product_geometry import product_geometry
from pairfuse.diagnosis.probes.result import Result
from pairfuse.diagnosis.probes.saturated import saturated
from pairfuse.diagnosis.probes.train_eval_gap import train_eval_gap
from pairfuse.diagnosis.probes.untied_branches import untied_branches
from pairfuse.diagnosis.probes.xnor_overfit import xnor_overfit
from pairfuse.diagnosis.subject import Subject

PROBES: dict[str, Callable[[Subject], Result]] = {
    probe.__name__.replace("_", "-"): probe
    for probe in (
        *(not_finite, double_sigmoid, constant_output, ignored_input, additive, broadcast, frozen),
        *(
            head_not_in_optimizer,
            nan_gradient,
            saturated,
            labels,
            dead_branch,
            batch_dependence,
            train_eval_gap,
            collapsed_embeddings,
        ),
        *(product_geometry, bounded_output, pinned_score, untied_branches, asymmetric, xnor_overfit),
    )
}
