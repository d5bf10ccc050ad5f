/* The interactive picture of the XOR page: two embeddings to move, a fusion to choose, a head to train. */

import { FUSIONS, IS_SAME, analyze, draw2d, evaluate, gradientStep, startHead } from "./maths.mjs";
import { fusedPairs, grid, lossCurves, make, marker, rays, viewOf } from "./draw.mjs";
import { mixture, precise, readable, wordsIn } from "./words.mjs";

const STEPS = 1000;
const STEPS_PER_FRAME = 8;
const GRID = 8; // positions are eighths, which floats hold exactly: what looks collinear is
const REACH = 2;
const PLANE = viewOf([0, 0], REACH * 1.15);
const LEAST_VIEW = { concat: 3 }; // the view stands still, or the cross would look the same wherever a and b are
const SLOW = 0.02; // a relative margin
const PRESETS = [
  ["concat", [1, 0.25], [0.25, 1]],
  ["product", [0.5, 0.75], [1, 1.5]],
  ["product", [1, 0.75], [0, 0]],
  ["product", [2, 1.75], [1.75, 2]],
  ["max", [1.5, 1], [0.5, -0.5]],
];

/** Put the picture in the place of what a page shows without scripts. */
export function show(place) {
  const words = wordsIn(place.dataset.lang ?? document.documentElement.lang);
  const [name, a, b] = PRESETS[0];
  const state = { name, a, b, head: null, losses: [], past: null, running: false, moved: false, seed: 1 };
  const parts = build(words, state);
  place.replaceChildren(...parts.all);
  place.classList.add("xor-live");
  const update = () => refresh(parts, words, state);
  connect(parts, words, state, update);
  update();
}

/** All elements, in the order in which they are read. */
function build(words, state) {
  const chips = Object.keys(FUSIONS).map((name) => {
    const input = make("input", { type: "radio", name: "xor-fusion", value: name });
    return make("label", { title: `f(u, v) = ${words.formulas[name]}` }, input, make("span", {}, name));
  });
  const handles = ["a", "b"].map((name) => handle(name, words));
  const field = make("g");
  const plane = make("svg", { viewBox: "0 0 360 360", role: "group", "aria-label": words.embeddings }, grid(PLANE, true), field, ...handles);
  const fused = make("svg", { viewBox: "0 0 360 360", role: "img" });
  const caption = make("figcaption");
  const table = make("table", { class: "xor-logits" });
  const chart = make("svg", { viewBox: "0 0 360 190", role: "img" });
  const toggle = make("button", { type: "button", class: "xor-main" }, words.start);
  const reset = make("button", { type: "button" }, words.reset);
  const presets = words.presets.map((label) => make("button", { type: "button" }, label));
  const verdict = make("p", { class: "xor-verdict" });
  const why = make("p", { class: "xor-why" });
  const progress = make("p", { class: "xor-progress" }, words.idle);
  const live = make("p", { class: "xor-spoken", "aria-live": "polite" });
  const key = make("p", { class: "xor-key" }, ...keyOf(true, words.same), ...keyOf(false, words.different));
  const all = [
    make("fieldset", { class: "xor-chips" }, make("legend", {}, words.fusion), ...chips),
    make("p", { class: "xor-presets" }, words.examples, ...presets),
    make(
      "div",
      { class: "xor-row" },
      make("figure", {}, plane, make("figcaption", {}, `${words.embeddings} ${words.task}`)),
      make("figure", {}, fused, key, caption),
    ),
    verdict,
    why,
    make(
      "div",
      { class: "xor-row" },
      make("div", { class: "xor-table" }, table),
      make("div", { class: "xor-training" }, make("p", { class: "xor-title" }, words.training), chart, make("p", { class: "xor-buttons" }, toggle, reset), progress),
    ),
    live,
  ];
  return { all, chips, handles, field, plane, fused, caption, table, chart, toggle, reset, presets, verdict, why, progress, live };
}

function keyOf(same, word) {
  return [make("svg", { viewBox: "0 0 20 20", "aria-hidden": "true" }, marker([10, 10], same)), make("span", {}, word)];
}

function handle(name, words) {
  const attributes = { class: `xor-handle xor-${name}`, tabindex: 0, role: "slider", "aria-label": words.embedding(name) };
  const area = make("circle", { class: "xor-grip", r: 30 });
  const label = make("text", { "text-anchor": "middle", y: 5.5 }, name);
  return make("g", { ...attributes, "aria-valuemin": -REACH, "aria-valuemax": REACH }, area, make("circle", { class: "xor-dot", r: 14 }), label);
}

/** What the reader does. */
function connect(parts, words, state, update) {
  const speak = () => (parts.live.textContent = spoken(words, state));
  const choose = (name) => {
    if (state.losses.length > 50) state.past = { name: state.name, losses: state.losses, past: true };
    Object.assign(state, { name, head: null, losses: [] });
    if (state.running) begin(state);
  };
  parts.chips.forEach((chip) => {
    const input = chip.querySelector("input");
    input.addEventListener("change", () => (choose(input.value), update(), speak()));
  });
  parts.presets.forEach((button, i) => {
    button.addEventListener("click", () => {
      const [name, a, b] = PRESETS[i];
      if (name !== state.name) choose(name);
      Object.assign(state, { a, b, moved: true });
      update();
      speak();
    });
  });
  parts.handles.forEach((element, i) => {
    const name = ["a", "b"][i];
    const move = (position) => {
      state[name] = position.map((x) => Math.min(Math.max(Math.round(x * GRID) / GRID, -REACH), REACH) + 0);
      state.moved = true;
      update();
    };
    makeMovable(element, parts.plane, () => state[name], move, speak);
  });
  parts.toggle.addEventListener("click", () => {
    state.running = !state.running;
    if (state.running && (!state.head || state.losses.length > STEPS)) begin(state);
    if (state.running) train(state, update, speak);
    update();
  });
  parts.reset.addEventListener("click", () => {
    Object.assign(state, { head: null, losses: [], past: null, running: false });
    update();
  });
}

/** Let an element follow the pointer and the arrow keys. */
function makeMovable(element, plane, position, move, done) {
  const at = (event) => {
    const box = plane.getBoundingClientRect();
    return PLANE.from([event.clientX - box.left, event.clientY - box.top].map((x) => (x * 360) / box.width));
  };
  let grip = null; // from the pointer to the middle of the element
  element.addEventListener("pointerdown", (event) => {
    element.setPointerCapture(event.pointerId);
    element.focus();
    grip = at(event).map((x, axis) => position()[axis] - x);
    event.preventDefault();
  });
  element.addEventListener("pointermove", (event) => grip && move(at(event).map((x, axis) => x + grip[axis])));
  const release = () => {
    if (grip) done();
    grip = null;
  };
  element.addEventListener("pointerup", release);
  element.addEventListener("pointercancel", release);
  element.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!way) return;
    move(position().map((x, axis) => x + (way[axis] * (event.shiftKey ? 4 : 1)) / GRID));
    done();
    event.preventDefault();
  });
}

/** A new head, from another random start each time. */
function begin(state) {
  let seed = (state.seed += 1) * 7919;
  const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
  const points = analyze(state.name, state.a, state.b).points;
  state.head = startHead(points[0].length, random);
  state.losses = [evaluate(points, state.head).loss];
  state.moved = false;
}

/** Some steps a frame; all at once where the reader wants no motion. */
function train(state, update, done) {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const frame = () => {
    if (!state.running) return;
    for (let i = 0; i < (still ? STEPS : STEPS_PER_FRAME) && state.losses.length <= STEPS; i++) {
      const { points } = analyze(state.name, state.a, state.b);
      state.head = gradientStep(points, state.head);
      state.losses.push(evaluate(points, state.head).loss);
    }
    state.running = state.losses.length <= STEPS;
    state.moved = false;
    update();
    if (state.running) requestAnimationFrame(frame);
    else done();
  };
  requestAnimationFrame(frame);
}

/** Show a state. */
function refresh(parts, words, state) {
  const found = analyze(state.name, state.a, state.b);
  const drawn = draw2d(found);
  const width = found.points[0].length;
  for (const chip of parts.chips) chip.firstChild.checked = chip.firstChild.value === state.name;
  parts.handles.forEach((element, i) => {
    const position = state[["a", "b"][i]];
    element.setAttribute("transform", `translate(${PLANE.to(position)})`);
    element.setAttribute("aria-valuenow", position[0]);
    element.setAttribute("aria-valuetext", where(position));
  });
  parts.field.replaceChildren(...rays(PLANE, [state.a, state.b]));
  parts.fused.replaceChildren(...fusedPairs(found, drawn, state.head, words, LEAST_VIEW[state.name]));
  parts.fused.setAttribute("aria-label", `${words.fused}: ${state.name}. ${verdictOf(words, found)}`);
  const share = Math.min(99, Math.round(100 * drawn.shown));
  const flat = drawn.shown > 1 - 1e-9;
  const caption = width <= 2 ? words.own(width) : flat ? words.flat(width) : words.projected(width, share);
  parts.caption.textContent = `f(u, v) = ${words.formulas[state.name]}${words.end}${caption}${state.name === "concat" ? words.cross : ""}`;
  parts.verdict.replaceChildren(
    make("strong", {}, `${found.separable ? "✓" : "✕"} ${found.separable ? words.separable : words.inseparable}`),
    make("span", {}, marginOf(words, found)),
  );
  parts.verdict.dataset.separable = found.separable;
  parts.why.textContent = reason(words, state, found);
  parts.table.replaceChildren(...truthTable(words, found, state.head));
  refreshTraining(parts, words, state, found);
}

function refreshTraining(parts, words, state, found) {
  const loss = state.head ? evaluate(found.points, state.head).loss : null;
  const runs = [...(state.past ? [state.past] : []), { name: state.name, losses: state.losses }];
  parts.chart.replaceChildren(...lossCurves(runs, STEPS));
  parts.chart.setAttribute("aria-label", words.chart(state.name, loss === null ? "–" : readable(loss, 3)));
  parts.toggle.textContent = state.running ? words.stop : words.start;
  const line = parts.fused.querySelector(".xor-trained") ? words.dotted : "";
  parts.progress.textContent = loss === null ? words.idle : words.progress(state.losses.length - 1, readable(loss, 3)) + line + (state.moved ? words.moved : "");
}

/** The four logits of the best head, whether they are right, and what the trained head says, if there is one. */
function truthTable(words, found, trained) {
  const right = found.head.logits.filter((logit, i) => logit !== 0 && logit > 0 === IS_SAME[i]).length;
  const title = { 4: words.headOfFour, 3: words.headOfThree }[right] ?? words.headOfNone;
  const columns = words.columns.slice(0, trained ? 5 : 4);
  const probabilities = trained && evaluate(found.points, trained).probabilities;
  const rows = found.head.logits.map((logit, i) => {
    const good = logit > 0 === IS_SAME[i];
    const says = logit === 0 ? words.undecided : good ? `✓ ${words.right}` : `✕ ${words.wrong}`;
    const sign = logit > 0 ? "+" : "";
    const cells = [IS_SAME[i] ? words.same : words.different, `${sign}${precise(logit)}`, says];
    if (trained) cells.push(readable(probabilities[i]));
    const kind = IS_SAME[i] ? "xor-same" : "xor-different";
    const row = make("tr", logit !== 0 && good ? {} : { class: "xor-bad" }, make("th", { scope: "row", class: kind }, words.pairs[i]));
    row.append(...cells.map((cell) => make("td", {}, cell)));
    return row;
  });
  const head = make("tr", {}, ...columns.map((column) => make("th", { scope: "col" }, column)));
  return [make("caption", {}, title), make("thead", {}, head), make("tbody", {}, ...rows)];
}

function reason(words, state, found) {
  if (state.a.every((x, axis) => x === state.b[axis])) return words.equal;
  if (found.separable) return words.gap + (found.relative < SLOW ? words.slow : "");
  return words.meet(mixture(found.s, words.pairs[0], words.pairs[1]), mixture(found.t, words.pairs[2], words.pairs[3]));
}

const where = (position) => position.map((x) => readable(x, 3)).join(", ");

const marginOf = (words, { separable, margin, relative }) =>
  separable ? words.margin(precise(margin, 3), precise(relative, 3)) : words.noMargin;

const verdictOf = (words, found) => `${found.separable ? words.separable : words.inseparable}${words.comma}${marginOf(words, found)}`;

const spoken = (words, state) =>
  words.said(state.name, where(state.a), where(state.b), verdictOf(words, analyze(state.name, state.a, state.b)));
