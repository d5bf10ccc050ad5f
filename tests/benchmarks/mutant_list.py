"""The deliberate faults of `mutants.py`: one changed place each, by file, with what breaks.

Each old text must occur exactly once in its file. When you rewrite a file, rewrite its faults too.
"""

from typing import NamedTuple


class Mutant(NamedTuple):
    """A fault: in `src/pairfuse/{file}`, `old` is replaced by `new`, which breaks something."""

    file: str
    old: str
    new: str
    breaks: str


XNOR = [
    Mutant("xnor/_features.py", "functional_call(still", "functional_call(fusion", "margins in train mode"),
    Mutant("xnor/_features.py", "(u.double(), v.double())", "(u.float(), v.float())", "margins in float32"),
    Mutant("xnor/_features.py", "scale.where(scale > 0, 1.0)", "scale.where(scale > 1, 1.0)", "no division by < 1"),
    Mutant("xnor/margin.py", "margin <= RESOLUTION * size", "margin < 0 * size", "rounding counts as a margin"),
    Mutant("xnor/margin.py", "(a, b), (b, a))])", "(a, b), (a, b))])", "one different pair only"),
    Mutant("xnor/margin.py", "positive_or_one(2 * largest)", "positive_or_one(largest)", "relative margin doubled"),
    Mutant("xnor/margin.py", "return (margin * scale)", "return margin * (scale > 0)", "the scale is lost"),
    Mutant("xnor/segments.py", "_dot(across, across)).clamp(0, 1)", "_dot(across, across))", "beyond the segment"),
    Mutant("xnor/segments.py", "positive = denominator > 0", "positive = denominator >= 0", "0 / 0"),
    Mutant("xnor/segments.py", "(p1 - q1) + s[...", "(p1 + q1) + s[...", "a wrong vector between the points"),
    Mutant("xnor/segments.py", "across = across - _ratio", "across = across - 0 * _ratio", "almost parallel segments"),
    Mutant("xnor/pair.py", "if 0 <= s <= 1 and 0 <= t <= 1:", "if s <= 1 and t <= 1:", "beyond the segment, exactly"),
    Mutant("xnor/pair.py", "2 * s * pr - 2 * t * qr", "2 * s * pr + 2 * t * qr", "a wrong distance in fractions"),
    Mutant("xnor/pair.py", "margin=apart.norm().item()", "margin=apart.norm().item() / 2", "half the margin"),
    Mutant("xnor/pair.py", "[[0.0, 1 - t], [t, 0.0]]", "[[0.0, t], [1 - t, 0.0]]", "shares swapped"),
    Mutant("xnor/certificate.py", "bias = -(low + high) / 2", "bias = -low", "a logit of 0"),
    Mutant("xnor/certificate.py", "if logit == 0 or (logit > 0) != same:", "if False:", "no exact signs"),
    Mutant("xnor/certificate.py", "if error <= tolerance else None", "if error <= 1 else None", "any common point"),
    Mutant("xnor/certificate.py", "error=self.error * scale.item()", "error=self.error", "an error without scale"),
    Mutant("xnor/classes.py", "used = used.triu()", "used = used.triu(1)", "no pair of an item with itself"),
    Mutant("xnor/classes.py", 'fusion.symmetry == "symmetric"', 'fusion.symmetry != ""', "half of the ordered pairs"),
    Mutant("xnor/classes.py", "if distance > RESOLUTION *", "if distance > -RESOLUTION *", "two at a time never tried"),
    Mutant("xnor/classes.py", "kept = spread > RESOLUTION * root", "kept = spread >= 0", "directions of rounding kept"),
    Mutant("xnor/classes.py", "widest.margin < separable.margin", "True", "not the widest gap"),
    Mutant("xnor/bounds.py", "(2 * k * (k - 1))", "(k * (k - 1))", "a bound that can be beaten or not reached"),
    Mutant("xnor/bounds.py", "mse=min(prior, 1 - prior) / 2", "mse=min(prior, 1 - prior)", "a wrong squared error"),
]
DATA = [
    Mutant("data/black_white.py", 'f"{self.seed}/{index', 'f"{index', "every seed gives the same pairs"),
    Mutant("data/black_white.py", '"same": left == right', '"same": left != right', "targets inverted"),
    Mutant("data/black_white.py", "index % self.length", "index", "negative indices give other pairs"),
    Mutant(
        "data/black_white.py",
        "return self._pair(bits >> 1, bits & 1)",
        "return self._pair(bits & 1, bits & 1)",
        "only same",
    ),
    Mutant("data/groups.py", "labels != UNLABELED", "labels >= UNLABELED", "unlabeled items are an identity"),
    Mutant("data/groups.py", 'f"{seed}/{index}"', "seed + index", "neighboring seeds give the same pairs, shifted"),
    Mutant("data/identities.py", "parts.append(rest[held])", "parts.append(held)", "positions of a part"),
    Mutant("data/identities.py", "int(visits.max()),", "0,", "an identity twice in a batch"),
    Mutant("data/identities.py", "math.ceil(alone / (self.identities - 1)),", "0,", "batches without a positive pair"),
    Mutant("data/identities.py", "range(rank, len(", "range(0, len(", "all ranks get the same batches"),
    Mutant("data/identities.py", "/ world_size) * world_size", "/ 1)", "ranks with different numbers of batches"),
    Mutant("data/identities.py", "visits[batch, :, None] * count", "0 * count", "items that never come up"),
    Mutant(
        "data/identities.py", "[places < count]", "[places < self.items]", "items of a small identity twice in a batch"
    ),
    Mutant("data/identities.py", "numbers[~is_taken[numbers]]", "numbers", "an identity twice in a batch"),
    Mutant(
        "data/identities.py",
        "where = _permutation(batches, goes_on, taken, generator)",
        "where = torch.arange(batches)",
        "no mixing",
    ),
    Mutant(
        "data/identities.py", "own_random(self.seed, self.epoch)", "own_random(self.seed, 0)", "all epochs are the same"
    ),
    Mutant(
        "data/identities.py",
        "self._groups.order[shuffled[",
        "self._groups.order[identity.argsort()[",
        "no item is shuffled",
    ),
    Mutant("data/pairs.py", "self.exclude_self and second >= first)", "0)", "an item with itself"),
    Mutant("data/pairs.py", "size * (second >= start)", "size * (second > start)", "a negative pair of one identity"),
    Mutant("data/pairs.py", "other += other >= identity", "other += 0", "a negative pair of one identity"),
    Mutant("data/pairs.py", "sizes * (total - sizes)", "sizes", "negative pairs are not equally likely"),
    Mutant("data/pairs.py", "(1 if evenly else sizes)", "1", "identities always drawn evenly"),
    Mutant("data/pairs.py", "index % self.length", "index", "negative indices give other pairs"),
    Mutant("data/pairs.py", "random.random() < self.same", "random.random() > self.same", "the share of the others"),
    Mutant("items/reading.py", "_is_label(given[1])) else", "True) else", "the second part of every item is left out"),
]
HEADS = [
    Mutant("heads.py", "START_GAP * (same - different)", "START_GAP * (different - same)", "weights of a wrong sign"),
    Mutant("heads.py", "for same, different in means if same == 0)", "for same, different in means)", "a wrong bias"),
    Mutant("heads.py", "if tied or same > different else", "if tied or same < different else", "untied starts"),
    Mutant("heads.py", "not (random and layer.training)", "not (random and False)", "dropout skipped in train mode"),
    Mutant(
        "heads.py",
        "return SplitHead(layer.weight @ before.weight, bias",
        "return SplitHead(before.weight, bias",
        "the first layer alone",
    ),
    Mutant("heads.py", "min(slopes) >= 0", "min(slopes) >= -9", "a decreasing function counts as monotone"),
    Mutant("heads.py", "if 0 <= least < largest <= 1:", "if False:", "probabilities for logits unnoticed"),
    Mutant("_deciding.py", "check_rows_apart(owner, model)", "pass", "pairs that depend on their batch"),
    Mutant("gallery.py", "if exclude_self and self.model.tied:", "if False:", "exclude_self for two sets"),
    Mutant("heads.py", "if width not in (None, features):", "if False:", "a head of a wrong width is accepted"),
    Mutant(
        "heads.py", "if isinstance(last, _PROBABILITIES):", "if False:", "a head that ends in a sigmoid is accepted"
    ),
    Mutant("_layers.py", '"forward" not in vars(layer) and ', "", "a patched layer counts as plain"),
]
ENCODERS = [
    Mutant("encoders.py", "_drop_auxiliary_classifiers(model)\n    if", "if", "several outputs in train mode"),
    Mutant("encoders.py", "model.item_ndim = 3", "model.item_ndim = 4", "one image taken for a batch"),
    Mutant("encoders.py", "isinstance(m, nn.Linear)][-1]", "isinstance(m, nn.Linear)][0]", "not the last layer"),
]
TESTING = [
    Mutant("testing/law.py", "<= tolerance * largest", "<= 1e9 * tolerance * largest", "laws that see nothing"),
    Mutant("testing/case.py", "if not fresh:", "if False:", "zeros hide what a parameter does"),
    Mutant("testing/case.py", "copy.deepcopy(fusion).double()", "fusion.double()", "a user's fusion is changed"),
    Mutant("testing/checks.py", "torch.enable_grad(),", "", "no gradients under the caller's no_grad"),
    Mutant("testing/checks.py", "if check.name in names and _may", "if _may", "`only` is ignored"),
    Mutant("testing/report.py", '("FAILED", "PASSED UNEXPECTEDLY")', '("FAILED",)', "a strict xfail that passes"),
    Mutant("testing/algebra.py", "[drawn, *_special_pairs(len(drawn[0]))]", "[drawn]", "special pairs left to chance"),
    Mutant("testing/behavior.py", "if p.requires_grad}}", "if False}}", "parameters that never train"),
    Mutant("testing/behavior.py", "torch.equal(after, kept)", "after.shape == kept.shape", "in-place changes"),
    Mutant("testing/strategies.py", "b = a.flip(0)", "b = a + 1", "no permuted pairs"),
]
MODES = [
    Mutant(
        "_modes.py",
        "twin.__dict__.update(vars(module), training=False)",
        "twin.__dict__.update(vars(module))",
        "train mode",
    ),
    Mutant(
        "_modes.py", "_repeat_changes(before[module][0], vars(twin), vars(module))", "pass", "attributes set are lost"
    ),
    Mutant("_modes.py", "for name in before.keys() - after.keys():", "for name in ():", "deleted attributes come back"),
    Mutant("_modes.py", "originals.get(part, part)", "part", "parts of a view become parts of the model"),
    Mutant("_modes.py", "if _loans[module].callers == 0]", "]", "the first of several callers switches back"),
    Mutant("_modes.py", "type(module).train is nn.Module.train", "True", "views of modules with a train of their own"),
    Mutant(
        "_modes.py",
        "return True  # a function of the user",
        "return False  # a function of the user",
        "views of user functions",
    ),
    Mutant("_modes.py", "parts = [*value]", "parts = []", "views of modules that hold their parts in lists"),
]
FUSIONS = [
    Mutant(
        "fusions/base.py",
        "depth_in(cls, name) <= computed",
        "depth_in(cls, name) < len(cls.__mro__)",
        "a parent's algebra for any fuse",
    ),
    Mutant("fusions/base.py", "setattr(cls, name, unknown)", "pass", "a parent's facts for any fuse"),
    Mutant("fusions/base.py", "return unchanged and not own_forward and", "return unchanged and", "forward unseen"),
    Mutant("fusions/base.py", "return unchanged and not", "return not", "a class that is patched later"),
    Mutant("fusions/stack.py", 'if "_declare" in self._written:', "if True:", "facts of a stack for any fuse"),
    Mutant("fusions/separable.py", '< depth_in(cls, "fuse"):', "< -1:", "new terms with an old fuse"),
    Mutant(
        "fusions/separable.py",
        "a is None or b is None for a, b",
        "a is None and b is None for a, b",
        "additive is wrong",
    ),
    Mutant("fusions/separable.py", "product.sum(-1) if self.summed else product", "product.sum(-1)", "sums everywhere"),
    Mutant("fusions/elementwise.py", "return u.square(), -2 * u, None", "return u.square(), 2 * u, None", "(u + v)²"),
    Mutant("fusions/elementwise.py", "    translation_invariant = True\n", "", "large offsets spoil the rounding"),
    Mutant("fusions/additive.py", "return None, -v", "return None, v", "a sum instead of a difference"),
    Mutant("fusions/quadratic.py", "return u @ _symmetric(self.p)", "return u @ self.p", "an asymmetric P"),
    Mutant("fusions/quadratic.py", "- _form(u - v, self.p)", "+ _form(u - v, self.p)", "a wrong sign in fuse"),
    Mutant("fusions/city_block.py", "(-1, ~(row > 0))", "(-1, row < 0)", "zero weights hide NaN"),
    Mutant("fusions/city_block.py", "gradients or len(weight) > 1", "len(weight) > 1", "no gradient of a zero weight"),
    Mutant("fusions/city_block.py", "-weighted_distances(u", "weighted_distances(u", "min scored as max"),
    Mutant("fusions/stack.py", "any(part.spans_sum for part", "all(part.spans_sum for part", "u + v in a stack unseen"),
    Mutant(
        "fusions/wrappers.py",
        "self.additive = fusion._balanced",
        "self.additive = fusion.additive",
        "Diff made symmetric",
    ),
    Mutant(
        "fusions/low_rank.py", "super().fast_path and is_linear(self.out)", "super().fast_path", "an adapter bypassed"
    ),
    Mutant("fusions/ntn.py", "if not is_linear(self.linear):", "if False:", "an adapter bypassed"),
    Mutant("fusions/cosine.py", "eps=self.eps).to(u.dtype),)", "eps=1.0).to(u.dtype),)", "short vectors in factors"),
]
SCORING = [
    Mutant("_layers.py", "is _FORWARDS[kind]", "is kind.forward", "patched classes of torch bypassed"),
    Mutant("_layers.py", "any(getattr(m, hooks) for hooks in _HOOKS)", "False", "hooks bypassed"),
    Mutant("_layers.py", "in _HOOKS) or _METHODS & vars(m).keys()", "in _HOOKS)", "patched methods bypassed"),
    Mutant("scoring/plan.py", "weight / 2, swapped=order)", "weight, swapped=order)", "a symmetrized fusion doubled"),
    Mutant(
        "scoring/plan.py", "return scores.transpose(0, 1) if swapped", "return scores if swapped", "rows for columns"
    ),
    Mutant("scoring/plan.py", "(u - origin, v - origin) if", "(u, v - origin) if", "one side moved"),
    Mutant("scoring/plan.py", 'knows_fuse(fusion, "score_all")', "True", "a parent's kernel for any fuse"),
    Mutant(
        "scoring/plan.py", 'and knows_fuse(fusion, "translation_invariant")', "", "a parent's invariance for any fuse"
    ),
    Mutant("scoring/factors.py", "weight.sum(1)[:, None, None] * x", "x[None]", "a cosine without its weight"),
    Mutant(
        "scoring/factors.py", "sums @ weight.mT if sums.ndim == 2", "sums if sums.ndim == 2", "biases without a weight"
    ),
    Mutant(
        "scoring/factors.py",
        "lefts, rights = [*lefts, row], [*rights, right.new_ones",
        "lefts, rights = [*lefts, row], [*rights, right.new_zeros",
        "an index without rows",
    ),
    Mutant("scoring/footprint.py", "training=False)", "training=True)", "measuring changes statistics"),
    Mutant("scoring/footprint.py", "isinstance(value, dict) and not hooks", "False", "measuring calls hooks"),
    Mutant("scoring/footprint.py", "self.now -= size", "pass", "freed memory counts"),
    Mutant("scoring/blocks.py", "some.where(good, 0).sum(0)", "some.sum(0)", "one bad row spoils the origin"),
    Mutant("scoring/blocks.py", "scores.to(self.dtype)", "scores", "half precision is not rounded back"),
    Mutant(
        "scoring/blocks.py", "if has_narrow and not self.gradients:", "if False:", "half precision computed as it is"
    ),
    Mutant("scoring/blocks.py", "self.max_bytes - self._tile_bytes - libraries", "99 * self.max_bytes", "no budget"),
    Mutant("scoring/topk.py", "if not values.isfinite().all():", "if values.isnan().any():", "overflows rank"),
    Mutant("scoring/topk.py", "TopK(values, indices + start)", "TopK(values, indices)", "indices within the block"),
    Mutant(
        "scoring/inner_product.py", "split is None or split.rest or", "split is None or", "hidden layers in an index"
    ),
]
GALLERY = [
    Mutant("gallery.py", "if self._encoder_versions() != self._versions:", "if False:", "stale embeddings"),
    Mutant("gallery.py", "*encoder.buffers()]", "]", "stale running statistics"),
    Mutant("gallery.py", "if not self.model.tied:", "if False:", "right embeddings as left ones"),
    Mutant("gallery.py", "queries.model is not self.model", "False", "embeddings of another model"),
    Mutant("_sets.py", "    check_rows_apart(owner, head)\n", "", "a batch norm on batch statistics"),
    Mutant("index.py", "found.indices >= 0", "found.indices >= -1", "an index that overflows"),
]
ITEMS = [
    Mutant("items/batches.py", "tensor[start:stop]", "tensor[start : stop + 1]", "an item twice"),
    Mutant("items/batches.py", "part.shape[0] != parts[0].shape[0]", "False", "parts with other numbers of items"),
    Mutant("items/batches.py", "torch.cat([x1, x2])", "torch.cat([x2, x1])", "sides swapped in the joint pass"),
    Mutant("items/batches.py", "x1.dtype == x2.dtype and ", "", "dtypes mixed in the joint pass"),
    Mutant("items/reading.py", "labeled = parts == 2 and", "labeled = False and", "labels go to the encoder"),
    Mutant("items/reading.py", "if due is not None and read != due:", "if False:", "a loader that drops items"),
    Mutant("items/tower.py", "return ndims == {self.item_ndim}", "return False", "one item taken for a batch"),
    Mutant("items/tower.py", "embeddings.reverse()", "pass", "batches joined in the wrong order"),
    Mutant("items/tower.py", "start += len(batch)", "start += 1", "rows overwritten"),
]
DIAGNOSIS = [
    Mutant("diagnosis/anova.py", "(above.minimum(below) > 0)", "(above.maximum(below) > 0)", "every order is crossed"),
    Mutant("diagnosis/anova.py", "(above + below >= 2)", "(above + below >= 99)", "no order is told"),
    Mutant("diagnosis/probes/crossing.py", "mixed(context.sample.left, ITEMS)", "context.sample.left", "no mixtures"),
    Mutant("diagnosis/probes/crossing.py", "(False, True))", "(False,))", "offsets hide a product"),
    Mutant("diagnosis/probes/additive.py", "if found.draws < ENOUGH:", "if False:", "no weights count as many"),
    Mutant("diagnosis/probes/additive.py", "_order(context, result) or result", "result", "a hidden sum is not seen"),
    Mutant("diagnosis/loss_kind.py", "passed.abs() < NARROW", "passed.abs() < 2", "a steep sigmoid counts as a second"),
    Mutant("diagnosis/loss_kind.py", "return same and different", "return same or different", "half a cross-entropy"),
    Mutant("diagnosis/context.py", "if self.sample.same_kind and not self", "if not self", "kinds that differ twice"),
    Mutant("diagnosis/context.py", "except Exception:\n", "except ZeroDivisionError:\n", "swapped sides raise"),
    Mutant("diagnosis/sandbox.py", "            attributes.update(before)\n", "", "replaced attributes stay"),
    Mutant("diagnosis/runner.py", "if tensor.ndim < 2:", "if False:", "biases stay large"),
    Mutant("diagnosis/memorizable.py", "if is_same else (right, left)", "if True else (right, left)", "all the same"),
    Mutant("diagnosis/probes/order.py", "(left <= right or right <= left)", "left == right", "relations are encoders"),
    Mutant("diagnosis/probes/gradients.py", "rightly_answered(context) >= TRAINED", "True", "wrong answers are right"),
    Mutant("diagnosis/run.py", "VERDICTS.index", "VERDICTS.count", "findings in any order"),
]

LOSSES = [
    Mutant("losses/pairs.py", "return self.same - int(self.one_set)", "return self.same", "an item is its own partner"),
    Mutant(
        "losses/pairs.py", "return len(self.labels2) - self.same", "return len(self.labels2) - 0 * self.same", "more"
    ),
    Mutant(
        "losses/pairs.py", "torch.arange(rows.start, rows.stop).to(columns)", "torch.arange(len(meant))", "other rows"
    ),
    Mutant("losses/objectives.py", "0.5 / count.sum()", "1.0 / count.sum()", "twice the cross-entropy"),
    Mutant("losses/objectives.py", "math.log(len(summary))", "0", "negatives of all anchors"),
    Mutant("losses/objectives.py", "pull.sum() * (scores", "(scores", "negatives pull with full weight"),
    Mutant(
        "losses/objectives.py",
        "weights.masked_fill_(itself, 0)\n        return weights, nn",
        "return weights, nn",
        "self",
    ),
    Mutant("losses/objectives.py", "terms.where(meant, 0)", "terms", "padding counts"),
    Mutant(
        "losses/objectives.py", "counts -= _count_by_rank(passed", "counts += _count_by_rank(passed", "hard negatives"
    ),
    Mutant("losses/objectives.py", "self.margin * count.to", "0 * count.to", "no margin in the value"),
    Mutant(
        "losses/objectives.py", "self.first + rows.start, self.first", "rows.start, 0 * self.first", "rows of rank 0"
    ),
    Mutant("losses/processes.py", "return gradient * distributed.get_world_size()", "return gradient", "DDP averages"),
    Mutant(
        "losses/processes.py",
        "return sum_of_all(gradient)[ctx.rows]",
        "return gradient[ctx.rows]",
        "own gradients only",
    ),
    Mutant(
        "losses/processes.py", "ctx.rows = slice(before, before + len(x))", "ctx.rows = slice(0, len(x))", "rank 0's"
    ),
    Mutant("losses/all_pairs.py", "labeled = labels != UNLABELED", "labeled = labels != -7", "unlabeled items count"),
    Mutant("losses/all_pairs.py", 'calibrated = self.objective == "bce"', "calibrated = True", "softmax starts flat"),
    Mutant("losses/all_pairs.py", "total / count.clamp(min=1)", "total", "a sum of triplets"),
    Mutant(
        "scoring/reduction.py",
        "part.add(where, gradient)",
        "part.add(slice(0, where.stop - where.start), gradient)",
        "x",
    ),
    Mutant("scoring/reduction.py", "total += share.total", "total = share.total", "the last tile only"),
    Mutant("scoring/reduction.py", "x * gradient.to(x.dtype)", "x", "what follows does not scale"),
    Mutant("integrations/metric_learning.py", "is_inverted=True)", "is_inverted=False)", "scores are distances"),
    Mutant("integrations/metric_learning.py", "normalize_embeddings=False", "normalize_embeddings=True", "unit length"),
    Mutant(
        "integrations/lightning.py", "sampler.set_epoch(self.current_epoch)", "pass", "each epoch has the same batches"
    ),
]

EVALUATION = [
    Mutant("evaluation/curve.py", "self._true[1:] + self._true[:-1]", "2 * self._true[1:]", "ties count whole"),
    Mutant("evaluation/curve.py", "negative.values, levels, right=True)", "negative.values, levels)", "no gaps"),
    Mutant("evaluation/curve.py", "k > 1 and -gap[k - 1] < gap[k]", "k > 1", "the farther threshold of the EER"),
    Mutant("evaluation/curve.py", "* (1 + 1e-12))", "+ 1)", "one negative pair too many"),
    Mutant("evaluation/curve.py", "(lower + threshold) / 2", "lower", "a threshold on a score"),
    Mutant("evaluation/curve.py", "if lower < float(middle) else threshold", "", "rounded to the lower score"),
    Mutant("evaluation/pairs.py", "wanted = left[:, None] < right", "wanted = left[:, None] <= right", "self-pairs"),
    Mutant("evaluation/pairs.py", "elif self.itself:", "elif False:", "self-pairs of both orders"),
    Mutant("evaluation/pairs.py", "(rows.start if self.halved else 0)", "0", "pairs before the diagonal"),
    Mutant("evaluation/sets.py", "if len(torn):", "if False:", "parts of an identity count as independent"),
    Mutant("evaluation/table.py", "keys[chosen]", "keys[same]", "negative pairs get the bins of positive ones"),
    Mutant("evaluation/table.py", "(right - first) * self.bins.count", "0 * right", "all pairs have one unit"),
    Mutant("evaluation/table.py", "shifted.clamp_(-1e30, 1e30)", "pass", "ends that are rounded"),
    Mutant("evaluation/table.py", "torch.randperm(count", "torch.arange(count", "groups of neighbors"),
    Mutant("evaluation/collect.py", "* EXACT_SHARE", "* 1e9", "everything is kept"),
    Mutant("evaluation/collect.py", "edges[0] = low", "pass", "the first bin ends where the sample did"),
    Mutant(
        "evaluation/intervals.py", "times[:, table.left] * times[:, table.right]", "times[:, table.left]", "one side"
    ),
    Mutant("evaluation/intervals.py", "- x[different].square().sum(0)", "", "pairs with themselves count twice"),
    Mutant("evaluation/intervals.py", "mixed = min(1.0, LEFT_OUT / table.units)", "mixed = 0.0", "too narrow"),
    Mutant(
        "evaluation/intervals.py", "return wilson(share, self.pairs /", "return wilson(share, self.pairs * 0 +", "n"
    ),
    Mutant("evaluation/intervals.py", "self._quantile * logits.std()", "logits.std()", "a third of the width"),
    Mutant("evaluation/intervals.py", "if units < FEW:", "if units < 0:", "few identities are not said"),
    Mutant("evaluation/build.py", "few = errors < FEW", "few = False", "no width without errors"),
    Mutant(
        "evaluation/build.py", "Platt(1.0, 0.0) if decision is None else decision.calibration", "Platt(1.0, 0.0)", "x"
    ),
    Mutant("evaluation/build.py", "if far * negatives >= 1]", "]", "a FAR of less than one pair"),
    Mutant("evaluation/probabilities.py", "(wrong * weights).flip(0)", "0 * weights", "infinite logits"),
    Mutant("evaluation/probabilities.py", "- slope * float(middle)", "", "a shifted calibration"),
    Mutant("evaluation/probabilities.py", "ends.to(sample.values.device)", "scores[1:].to(scores.device)", "neighbors"),
    Mutant("evaluation/report.py", "[1] <= far\n", "[0] <= far\n", "surely by the lower end"),
    Mutant("evaluation/report.py", "* self.negatives + 1) / (", "* self.negatives) / (", "no error is no error"),
    Mutant("evaluation/report.py", "prior * miss * (1 - self", "miss * (1 - self", "a cost without the prior"),
    Mutant("evaluation/search.py", "strangers[query] >= own", "strangers[query] > own + 1", "better strangers"),
    Mutant("evaluation/search.py", "size - 1)\n", "size)\n", "one stranger too many"),
    Mutant("evaluation/search.py", "scores.masked_fill(same, -torch.inf)", "scores", "own items are strangers"),
    Mutant("evaluation/evaluate.py", "with torch.enable_grad():", "if True:", "folds cannot train"),
    Mutant("evaluation/sets.py", "(labels != UNLABELED).nonzero()", "(labels != -7).nonzero()", "unlabeled items"),
    Mutant(
        "decisions/decision.py", "self.calibration(scores) + logit(self.prior)", "self.calibration(scores)", "prior"
    ),
    Mutant(
        "decisions/decision.py",
        "return scores.to(torch.promote_types(scores.dtype, torch.float32))",
        "return scores",
        "b",
    ),
    Mutant(
        "decisions/estimate.py", "share * (1 - share) / trials + z2", "share * (1 - share) / trials + 0 * z2", "Wald"
    ),
    Mutant("_deciding.py", "raise TypeError(", "TypeError(", "anything is a decision"),
]

MUTANTS = [
    *(*XNOR, *DATA, *HEADS, *ENCODERS, *TESTING, *MODES, *FUSIONS, *SCORING, *GALLERY, *ITEMS, *DIAGNOSIS, *LOSSES),
    *EVALUATION,
]
