"""The probes, in the order in which they run: causes before what they cause."""

from pairfuse.diagnosis.probe import Probe
from pairfuse.diagnosis.probes.additive import additive
from pairfuse.diagnosis.probes.geometry import collapsed_embeddings, product_geometry
from pairfuse.diagnosis.probes.gradients import dead_branch, nan_gradient
from pairfuse.diagnosis.probes.head_start import head_start
from pairfuse.diagnosis.probes.labels import labels
from pairfuse.diagnosis.probes.loss_fit import bounded_output, broadcast, double_sigmoid
from pairfuse.diagnosis.probes.modes import batch_dependence, train_eval_gap
from pairfuse.diagnosis.probes.order import asymmetric, pinned_score, untied_branches
from pairfuse.diagnosis.probes.scores import constant_output, ignored_input, not_finite, saturated
from pairfuse.diagnosis.probes.trained_parts import frozen, head_not_in_optimizer
from pairfuse.diagnosis.probes.xnor_overfit import xnor_overfit
from pairfuse.diagnosis.report import Verdict

Blocked = dict[str, tuple[Verdict, ...]]

FINITE: Blocked = {"not-finite": ("fail",)}
VARIED: Blocked = {**FINITE, "constant-output": ("fail", "note")}
BOTH_READ: Blocked = {**FINITE, "constant-output": ("fail",), "ignored-input": ("fail",)}
ABLE: Blocked = {**BOTH_READ, "additive": ("fail",), "frozen": ("fail",), "dead-branch": ("fail",)}

PROBES = (
    Probe("not-finite", not_finite, decisive=True),
    Probe("double-sigmoid", double_sigmoid, blocked_by=FINITE),
    Probe("constant-output", constant_output, blocked_by=FINITE, decisive=True),
    Probe("ignored-input", ignored_input, blocked_by=VARIED, decisive=True),
    Probe("additive", additive, blocked_by=BOTH_READ, decisive=True),
    Probe("broadcast", broadcast, ("y", "loss"), FINITE),
    Probe("frozen", frozen, ("module", "parameters"), FINITE),
    Probe("head-not-in-optimizer", head_not_in_optimizer, ("optimizer", "module"), FINITE),
    Probe("nan-gradient", nan_gradient, ("module", "parameters"), FINITE),
    Probe("saturated", saturated, blocked_by=VARIED),
    Probe("labels", labels, ("y",), FINITE),
    Probe("dead-branch", dead_branch, ("module", "parameters"), VARIED),
    Probe("batch-dependence", batch_dependence, blocked_by=FINITE),
    Probe("train-eval-gap", train_eval_gap, ("module",), FINITE),
    Probe("collapsed-embeddings", collapsed_embeddings, blocked_by=FINITE),
    Probe("product-geometry", product_geometry, ("one kind of item",), FINITE),
    Probe("bounded-output", bounded_output, blocked_by=VARIED),
    Probe("pinned-score", pinned_score, ("one kind of item", "no order", "module"), VARIED),
    Probe("untied-branches", untied_branches, ("one kind of item",), FINITE),
    Probe("asymmetric", asymmetric, ("one kind of item", "no order"), FINITE),
    Probe("head-start", head_start, ("y", "module", "no order"), ABLE),
    Probe("xnor-overfit", xnor_overfit, ("no order", "module", "parameters"), ABLE, decisive=True),
)
