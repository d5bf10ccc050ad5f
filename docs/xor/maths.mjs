/* The mathematics of the XOR page: fusions, margins, certificates, heads and gradient descent, without a browser.
 *
 * The definitions are those of src/pairfuse/xnor; tests/test_xor_maths.py compares the two. The four pairs come in one
 * order throughout: (a, a), (b, b), (a, b), (b, a). The first two are the same, the others different.
 */

export const IS_SAME = [true, true, false, false];

const RESOLUTION = 16 * Number.EPSILON; // of the largest feature: below it a margin may be rounding only

const each = (f) => (u, v) => u.map((x, i) => f(x, v[i]));
const stack = (...parts) => (u, v) => parts.flatMap((part) => part(u, v));

const concat = (u, v) => [...u, ...v];
const diff = each((x, y) => x - y);
const product = each((x, y) => x * y);
const absDiff = each((x, y) => Math.abs(x - y));

/** Every registered fusion that has no weights, and the outer product, of which a bilinear form is a linear head. */
export const FUSIONS = {
  "concat": concat,
  "sum": each((x, y) => x + y),
  "mean": each((x, y) => (x + y) / 2),
  "diff": diff,
  "product": product,
  "abs-diff": absDiff,
  "squared-diff": each((x, y) => (x - y) ** 2),
  "max": each(Math.max),
  "min": each(Math.min),
  "cosine": (u, v) => [dot(unit(u, 1e-8), unit(v, 1e-8))],
  "bilinear": (u, v) => u.flatMap((x) => v.map((y) => x * y)),
  "symmetric": stack(product, absDiff),
  "infersent": stack(concat, absDiff, product),
  "sbert": stack(concat, absDiff),
  "mou": stack(concat, diff, product),
};

/** The features of the four pairs. */
export const fusePairs = (name, a, b) => [[a, a], [b, b], [a, b], [b, a]].map(([u, v]) => FUSIONS[name](u, v));

export const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
export const minus = (x, y) => x.map((value, i) => value - y[i]);
export const norm = (x) => Math.sqrt(dot(x, x));
const addScaled = (x, factor, y) => x.map((value, i) => value + factor * y[i]);
const scaled = (x, factor) => x.map((value) => factor * value);
const unit = (x, least) => scaled(x, 1 / Math.max(norm(x), least));
const clamp = (x) => Math.min(Math.max(x, 0), 1);
const ratio = (numerator, denominator) => (denominator > 0 ? numerator / denominator : 0);
const largest = (points) => Math.max(...points.flat().map(Math.abs));

/** The least power of two above a size, 1 for 0: to divide by it changes no digit. */
function powerOfTwo(size) {
  if (size === 0) return 1;
  let power = 2 ** Math.ceil(Math.log2(size));
  while (power <= size) power *= 2;
  while (power / 2 > size) power /= 2;
  return power;
}

/** The closest points p1 + s (p2 − p1) and q1 + t (q2 − q1) of two segments, and the vector from the latter. */
export function closestPoints(p1, p2, q1, q2) {
  const p = minus(p2, p1), q = minus(q2, q1), start = minus(p1, q1);
  const pp = dot(p, p), qq = dot(q, q);
  let across = addScaled(q, -ratio(dot(p, q), pp), p); // the part of q across p: 0 for parallel segments,
  across = addScaled(across, -ratio(dot(p, across), pp), p); // and twice, so that almost parallel ones work
  const between = (s, t) => addScaled(addScaled(start, s, p), -t, q);
  let s = 0;
  let t = clamp(ratio(dot(across, start), dot(across, across)));
  s = clamp(s - ratio(dot(p, between(s, t)), pp));
  t = clamp(t + ratio(dot(q, between(s, t)), qq)); // s may have been clamped
  s = clamp(s - ratio(dot(p, between(s, t)), pp));
  return { s, t, apart: between(s, t) };
}

/**
 * All that the page shows of two embeddings under a fusion.
 *
 * `margin` and `relative` are those of `pf.xnor_margin`. Where the margin is 0, (1 − s) f(a, a) + s f(b, b) =
 * (1 − t) f(a, b) + t f(b, a), as in `pf.xnor.xnor_certificate`. `head` is the best linear head: that of the
 * certificate where there is one, and else one that is right three times of four, with the widest gap.
 */
export function analyze(name, a, b) {
  const points = fusePairs(name, a, b);
  const scale = powerOfTwo(largest(points));
  const small = points.map((point) => scaled(point, 1 / scale));
  const { s, t, apart } = closestPoints(...small);
  const distance = norm(apart);
  const separable = distance > RESOLUTION * largest(small);
  const longest = Math.max(...small.map(norm));
  return {
    points,
    separable,
    margin: separable ? distance * scale : 0,
    relative: separable ? distance / (2 * longest) : 0,
    s,
    t,
    head: separable ? headAlong(apart, points, [0, 1, 2, 3]) : headForThree(points, small),
  };
}

/** A head whose weight of norm 1 points along a vector, with its 0 in the middle of the gap between the given pairs. */
function headAlong(apart, points, pairs) {
  const weight = unit(apart, 0);
  const along = points.map((point) => dot(weight, point));
  const low = Math.min(...pairs.filter((i) => IS_SAME[i]).map((i) => along[i]));
  const high = Math.max(...pairs.filter((i) => !IS_SAME[i]).map((i) => along[i]));
  const bias = -(low + high) / 2;
  return { weight, bias, logits: along.map((value) => value + bias) };
}

/** The head that is right for three of the pairs with the widest gap; all 0 where there is none, as for a = b. */
function headForThree(points, small) {
  const best = { distance: RESOLUTION * largest(small) };
  for (const left of [1, 0, 3, 2]) {
    const three = small.map((point, i) => (i === left ? small[left ^ 1] : point)); // a segment of no length
    const { apart } = closestPoints(...three);
    if (norm(apart) > best.distance) Object.assign(best, { distance: norm(apart), apart, left });
  }
  if (!best.apart) return { weight: points[0].map(() => 0), bias: 0, logits: [0, 0, 0, 0] };
  return headAlong(best.apart, points, [0, 1, 2, 3].filter((i) => i !== best.left));
}

/**
 * The four pairs in a plane in which the line of the head is exact.
 *
 * One or two features are drawn as they are. Of more, where the segments meet, the plane is theirs, and nothing is lost.
 * Where they are apart, upwards is the head's weight, and sideways lies half-way between the two segments, so that both
 * are seen. `shown` is the share of the squared distances from the mean that the plane shows.
 */
export function draw2d({ points, separable, head }) {
  const zero = points[0].map(() => 0);
  if (zero.length <= 2) {
    const basis = [0, 1].map((axis) => zero.map((_, i) => (i === axis ? 1 : 0)));
    return inPlane(points, head, zero, basis);
  }
  const mean = points.reduce((sum, point) => addScaled(sum, 1 / 4, point), zero);
  const rounding = 1e-12 * largest(points);
  const directionOf = (x) => (norm(x) > rounding ? unit(x, 0) : zero);
  const p = minus(points[1], points[0]), q = minus(points[3], points[2]);
  const first = separable ? head.weight : directionOf(norm(p) > rounding ? p : q);
  const [besideP, besideQ] = [p, q].map((x) => directionOf(addScaled(x, -dot(first, x), first)));
  const turn = dot(besideP, besideQ) < -1e-9 ? -1 : 1;
  const second = directionOf(addScaled(besideP, turn, besideQ));
  return inPlane(points, head, mean, separable ? [second, first] : [first, second]);
}

function inPlane(points, head, origin, basis) {
  const onto = (point) => basis.map((direction) => dot(direction, point));
  const rest = points.map((point) => minus(point, origin));
  const whole = rest.reduce((sum, point) => sum + dot(point, point), 0);
  const seen = rest.reduce((sum, point) => sum + dot(onto(point), onto(point)), 0);
  const line = ({ weight, bias }) => ({ weight: onto(weight), bias: bias + dot(weight, origin) });
  return { points: rest.map(onto), head: line(head), shown: whole > 0 ? seen / whole : 1, line };
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

/** The logits of a head on the features of the four pairs, and their mean cross-entropy. */
export function evaluate(points, { weight, bias }) {
  const logits = points.map((point) => dot(weight, point) + bias);
  const losses = logits.map((logit, i) => softplus(IS_SAME[i] ? -logit : logit));
  return { logits, probabilities: logits.map(sigmoid), loss: losses.reduce((x, y) => x + y) / 4 };
}

/** A head as `nn.Linear` starts it: uniform in ±1/√F, from a generator of numbers in [0, 1). */
export function startHead(width, random) {
  const draw = () => (2 * random() - 1) / Math.sqrt(width);
  return { weight: Array.from({ length: width }, draw), bias: draw() };
}

/** One step of gradient descent, of a size at which the loss cannot rise: 1 over a bound of its curvature. */
export function gradientStep(points, head) {
  const rate = 16 / points.reduce((sum, point) => sum + dot(point, point) + 1, 0);
  const errors = evaluate(points, head).probabilities.map((p, i) => p - (IS_SAME[i] ? 1 : 0));
  const weight = points.reduce((w, point, i) => addScaled(w, (-rate * errors[i]) / 4, point), head.weight);
  return { weight, bias: head.bias - (rate * errors.reduce((x, y) => x + y)) / 4 };
}
