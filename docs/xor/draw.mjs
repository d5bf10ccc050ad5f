/* The drawings of the XOR page: the plane of the embeddings, the fused pairs and the loss curve, as SVG. */

import { IS_SAME, dot } from "./maths.mjs";
import { readable } from "./words.mjs";

const SIZE = 360; // of every drawing, in its own units
const SVG = new Set(["svg", "g", "line", "circle", "path", "polygon", "polyline", "text", "rect", "title"]);

/** An element with attributes and children; events are attributes that are functions. */
export function make(tag, attributes = {}, ...children) {
  const element = SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const line = (kind, [x1, y1], [x2, y2]) => make("line", { class: kind, x1, y1, x2, y2 });
const text = (kind, [x, y], words, anchor = "middle") => make("text", { class: kind, x, y, "text-anchor": anchor }, words);

/** A square view of the plane: from coordinates to those of the drawing, and back. */
export function viewOf([x, y], half) {
  const unit = SIZE / 2 / half;
  return {
    half,
    center: [x, y],
    unit,
    to: ([px, py]) => [SIZE / 2 + (px - x) * unit, SIZE / 2 - (py - y) * unit],
    from: ([px, py]) => [x + (px - SIZE / 2) / unit, y - (py - SIZE / 2) / unit],
  };
}

/** The view that holds some points with room for their names, and no less than `least` to each side. */
function viewAround(points, least) {
  const ranges = [0, 1].map((axis) => {
    const values = points.map((point) => point[axis]);
    return [Math.min(...values), Math.max(...values)];
  });
  const reach = Math.max(...ranges.map(([low, high]) => (high - low) / 2));
  const half = Math.max(reach > 1e-12 ? 1.7 * reach : 0.4, least);
  return viewOf(ranges.map(([low, high]) => (low + high) / 2), half);
}

/** Lines at round numbers; the axes stand out and the numbers are written where they mean a feature. */
export function grid(view, numbers) {
  const raw = view.half / 2.5;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= raw) * power;
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const group = make("g", { class: "xor-grid" });
  for (const axis of [0, 1]) {
    const [low, high] = [view.center[axis] - view.half, view.center[axis] + view.half];
    for (let i = Math.ceil(low / step); i * step <= high; i++) {
      const at = view.to([i * step, i * step])[axis];
      const kind = numbers && i === 0 ? "xor-axis" : "xor-rule";
      group.append(axis ? line(kind, [0, at], [SIZE, at]) : line(kind, [at, 0], [at, SIZE]));
      if (numbers && at > 20 && at < SIZE - 14) {
        const place = axis ? [5, at - 4] : [at + 4, SIZE - 6];
        group.append(text("xor-number", place, readable(i * step, i ? digits : 0), "start"));
      }
    }
  }
  return group;
}

/** The part of the drawing where a head is above 0, and the ends of the line where it is 0. */
function halfPlane(view, { weight, bias }) {
  const corners = [[0, 0], [SIZE, 0], [SIZE, SIZE], [0, SIZE]];
  const value = (corner) => dot(weight, view.from(corner)) + bias;
  const polygon = [], cut = [];
  corners.forEach((corner, i) => {
    const next = corners[(i + 1) % 4];
    const [here, there] = [value(corner), value(next)];
    if (here > 0) polygon.push(corner);
    if (here > 0 !== there > 0) {
      const share = here / (here - there);
      const crossing = corner.map((x, axis) => x + share * (next[axis] - x));
      polygon.push(crossing);
      cut.push(crossing);
    }
  });
  return { polygon, cut };
}

/** The four fused pairs with their segments, the line of the best head, and the gap or the common point. */
export function fusedPairs(found, drawn, trained, words, least = 0) {
  const view = viewAround(drawn.points, least);
  const at = drawn.points.map(view.to);
  const parts = [];
  const { polygon, cut } = halfPlane(view, drawn.head);
  if (found.separable) {
    parts.push(make("rect", { class: "xor-side-different", width: SIZE, height: SIZE }));
    parts.push(make("polygon", { class: "xor-side-same", points: polygon.join(" ") }));
  }
  const width = found.points[0].length;
  parts.push(grid(view, width <= 2));
  if (cut.length === 2) parts.push(line(found.separable ? "xor-best" : "xor-best xor-dashed", ...cut));
  if (trained && drawn.shown > 1 - 1e-9) {
    const { cut: ends } = halfPlane(view, drawn.line(trained));
    if (ends.length === 2) parts.push(line("xor-trained", ...ends));
  }
  parts.push(line("xor-segment xor-same", at[0], at[1]), line("xor-segment xor-different", at[2], at[3]));
  const p = onto(at[0], at[1], found.s), q = onto(at[2], at[3], found.t);
  if (found.separable) {
    parts.push(line("xor-gap", p, q), line("xor-gap-inside", p, q));
  }
  at.forEach((point, i) => parts.push(marker(point, IS_SAME[i])));
  if (!found.separable) parts.push(make("circle", { class: "xor-ring", cx: p[0], cy: p[1], r: 15 }));
  parts.push(...names(at, words.pairs));
  return parts;
}

const onto = (from, to, share) => from.map((x, axis) => x + share * (to[axis] - x));

/** A disc for a same pair, a diamond for a different one; of two in one place both are seen. */
export function marker([x, y], same) {
  if (same) return make("circle", { class: "xor-point xor-same", cx: x, cy: y, r: 9 });
  const d = 8.5;
  return make("polygon", { class: "xor-point xor-different", points: `${x},${y - d} ${x + d},${y} ${x},${y + d} ${x - d},${y}` });
}

/** The names of the pairs beside their points, where they hide least; pairs of one kind in one place share a line. */
function names(at, pairs) {
  const middle = at.reduce((sum, point) => sum + point[1] / 4, 0);
  const steps = Array.from({ length: 25 }, (_, i) => i / 24);
  const ink = steps.flatMap((share) => [onto(at[0], at[1], share), onto(at[2], at[3], share)]);
  const taken = [];
  return labelsOf(at, pairs).map(([[x, y], words, same]) => {
    const half = 4.5 * words.length;
    const [above, below] = [[x, y - 24], [x, y + 24]];
    const up = Math.abs(y - middle) < 8 ? same : y < middle;
    const places = [...(up ? [above, below] : [below, above]), [x + half + 16, y], [x - half - 16, y]];
    const hidden = places.map(([px, py], i) => {
      const covers = ([qx, qy], reach) => Math.abs(qx - px) < half + reach && Math.abs(qy - py) < 11 + reach;
      const outside = px < half || px > SIZE - half || py < 11 || py > SIZE - 11;
      const crossed = ink.filter((point) => covers(point, 0)).length;
      return i / 4 + crossed + 20 * taken.filter((place) => covers(place, 9)).length + (outside ? 9 : 0);
    });
    const best = places[hidden.indexOf(Math.min(...hidden))];
    taken.push(best);
    const inside = Math.min(Math.max(best[0], half), SIZE - half);
    return text(`xor-name ${same ? "xor-same" : "xor-different"}`, [inside, best[1] + 6], words);
  });
}

function labelsOf(at, pairs) {
  return [[0, 1], [2, 3]].flatMap(([i, j]) => {
    const close = Math.hypot(at[i][0] - at[j][0], at[i][1] - at[j][1]) < 24;
    if (close) return [[onto(at[i], at[j], 0.5), `${pairs[i]} ${pairs[j]}`, IS_SAME[i]]];
    return [i, j].map((k) => [at[k], pairs[k], IS_SAME[k]]);
  });
}

/** Two loss curves over the steps, the earlier one pale, with ln 2 as a dashed line. */
export function lossCurves(runs, steps) {
  const [width, bottom, left] = [SIZE, 168, 34];
  const place = (step, loss) => [left + ((width - left - 4) * step) / steps, bottom - 158 * Math.min(loss, 1.05)];
  const level = (loss, kind, label) => [
    line(kind, place(0, loss), place(steps, loss)),
    text("xor-number", [left - 5, place(0, loss)[1] + 5], label, "end"),
  ];
  const parts = [...level(0, "xor-axis", "0"), ...level(1, "xor-rule", "1"), ...level(Math.LN2, "xor-floor", "ln 2")];
  for (const step of [0, steps / 2, steps]) {
    const anchor = step === 0 ? "start" : step === steps ? "end" : "middle";
    parts.push(text("xor-number", [place(step, 0)[0], bottom + 17], String(step), anchor));
  }
  const shown = runs.filter((run) => run.losses.length);
  const ends = shown.map(({ losses }) => place(losses.length - 1, losses[losses.length - 1]));
  shown.forEach(({ name, losses, past }, i) => {
    const points = losses.map((loss, step) => place(step, loss)).filter((_, step) => step % 4 === 0 || step < 20);
    parts.push(make("polyline", { class: past ? "xor-loss xor-past" : "xor-loss", points: points.join(" ") }));
    const [x, y] = ends[i];
    const other = ends[1 - i];
    const together = past && other && Math.abs(x - other[0]) < 70 && Math.abs(y - other[1]) < 18;
    const height = (together ? Math.min(y, other[1] - 17) : y) - 8; // the earlier name stands above the later one
    parts.push(text(past ? "xor-name xor-past" : "xor-name", [x, height], name, x > width / 2 ? "end" : "start"));
  });
  return parts;
}

/** Rays from the origin through the embeddings, on which the product cannot tell them apart. */
export const rays = (view, embeddings) =>
  embeddings.filter((x) => dot(x, x) > 0).map((x) => line("xor-ray", view.to([0, 0]), view.to(x)));
