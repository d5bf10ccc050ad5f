/* Every word of the interactive picture, in the languages of the site. */

const pairs = ["(a, a)", "(b, b)", "(a, b)", "(b, a)"];

const formulas = {
  "concat": "[u; v]",
  "sum": "u + v",
  "mean": "(u + v) / 2",
  "diff": "u − v",
  "product": "u ∘ v",
  "abs-diff": "|u − v|",
  "squared-diff": "(u − v)²",
  "max": "max(u, v)",
  "min": "min(u, v)",
  "cosine": "cos(u, v)",
  "bilinear": "u vᵀ, on which a linear head is a bilinear form uᵀWv",
  "symmetric": "[u ∘ v; |u − v|]",
  "infersent": "[u; v; |u − v|; u ∘ v]",
  "sbert": "[u; v; |u − v|]",
  "mou": "[u; v; u − v; u ∘ v]",
};

const en = {
  pairs,
  formulas,
  fusion: "Fusion",
  examples: "Try: ",
  presets: ["start", "same direction", "b = 0", "common offset", "a > b everywhere"],
  end: ". ",
  comma: ", ",
  task: "Try to find positions where concat is separable. Then try another fusion.",
  cross: " The cross grows and shrinks with the distance between a and b, but it is a cross for all positions: this is the proof.",
  slow: " The pairs are separable, but the margin is small compared with the features: learning will be slow.",
  moved: " (This head, on the moved pairs.)",
  embeddings: "The two embeddings: drag them, or focus one and use the arrow keys.",
  embedding: (name) => `embedding ${name}: move it with the arrow keys, faster with Shift`,
  fused: "The four pairs after the fusion",
  same: "same",
  different: "different",
  own: (width) => (width === 1 ? "One feature: the pairs lie on a line." : "Two features, one on each axis."),
  flat: (width) => `${width} features. All four pairs lie in one plane; the picture shows this plane and loses nothing.`,
  projected: (width, share) =>
    `${width} features, projected so that the separating line is exact: the direction of the best head points up. ` +
    `The picture shows ${share} % of the spread of the pairs.`,
  separable: "Separable",
  inseparable: "Not separable",
  margin: (margin, relative) => `margin ${margin}, relative to the size of the features ${relative}`,
  noMargin: "margin 0",
  meet: (left, right) => `The segments meet in the ring: ${left} = ${right}. Whatever sign a line gives this point, one pair is wrong.`,
  gap: "The double line is the shortest distance between the two segments. The line through its midpoint is the best head.",
  equal: "a and b are equal: there is nothing to separate.",
  headOfFour: "The best linear head: all four right.",
  headOfThree: "No linear head gets all four right. The dashed line gets three.",
  headOfNone: "No linear head gets more than two right.",
  columns: ["pair", "must be", "logit", "", "trained"],
  right: "right",
  wrong: "wrong",
  undecided: "undecided",
  training: "Gradient descent on these four pairs",
  start: "Train",
  stop: "Stop",
  reset: "Reset",
  progress: (step, loss) => `Step ${step}, loss ${loss}. The last column is the trained head's p(same).`,
  dotted: " The dotted line is this head.",
  idle: "A linear head with random initial weights, 1,000 steps of full-batch gradient descent on the cross-entropy.",
  chart: (name, loss) => `Loss curve of ${name}, now at ${loss}; ln 2 is 0.693`,
  said: (name, a, b, verdict) => `${name}: ${verdict}. a at ${a}, b at ${b}.`,
};

const zh = {
  ...en,
  formulas: { ...formulas, bilinear: "u vᵀ，其上的线性头就是双线性形式 uᵀWv" },
  fusion: "融合方式",
  examples: "试一试：",
  presets: ["初始位置", "同方向", "b = 0", "共同偏移", "a 处处大于 b"],
  end: "。",
  comma: "，",
  task: "请试着为 concat 找到一个可分的位置，再换一种融合试试。",
  cross: "十字随 a 与 b 的距离变大变小，但无论它们在哪里，十字始终是十字：这就是证明。",
  slow: "可分，但间隔相对于特征很小：学起来会很慢。",
  moved: "（这个头，在移动之后的配对上。）",
  embeddings: "两个嵌入向量：可以拖动，也可以选中后用方向键移动。",
  embedding: (name) => `嵌入向量 ${name}，用方向键移动，按住 Shift 移动更快`,
  fused: "融合之后的四个配对",
  same: "相同",
  different: "不同",
  own: (width) => (width === 1 ? "一个特征：四个配对都在一条直线上。" : "两个特征，各占一条坐标轴。"),
  flat: (width) => `${width} 个特征。四个配对恰好在同一平面内，图中就是这个平面，没有丢失任何信息。`,
  projected: (width, share) =>
    `${width} 个特征。选取的视角使分界线是精确的：向上就是最佳线性头的方向。图中保留了配对离散程度的 ${share} %。`,
  separable: "可分",
  inseparable: "不可分",
  margin: (margin, relative) => `间隔 ${margin}，相对于特征大小为 ${relative}`,
  noMargin: "间隔 0",
  meet: (left, right) => `两条线段在圆圈处相交：${left} = ${right}。无论直线给这一点什么符号，总有一个配对是错的。`,
  gap: "双线是两条线段之间的最短连线，穿过其中点的直线就是最佳线性头。",
  equal: "a 与 b 重合：没有什么可区分的。",
  headOfFour: "最佳线性头：四个全对。",
  headOfThree: "没有线性头能四个全对。虚线答对三个。",
  headOfNone: "没有线性头能答对两个以上。",
  columns: ["配对", "应为", "logit", "", "训练后"],
  right: "对",
  wrong: "错",
  undecided: "未定",
  training: "在这四个配对上做梯度下降",
  start: "训练",
  stop: "停止",
  reset: "重置",
  progress: (step, loss) => `第 ${step} 步，损失 ${loss}。最后一列是训练中的头给出的 p(相同)。`,
  dotted: "点线就是这个头。",
  idle: "随机初始化的线性头，用交叉熵做 1000 步全批量梯度下降。",
  chart: (name, loss) => `${name} 的损失曲线，现在为 ${loss}；ln 2 为 0.693`,
  said: (name, a, b, verdict) => `${name}：${verdict}。a 在 ${a}，b 在 ${b}。`,
};

/** The words in a language, English where there are none. */
export const wordsIn = (language) => (language.startsWith("zh") ? zh : en);

/** A number as it is read: with a true minus, and without one before a rounded 0. */
export function readable(value, digits = 2) {
  const text = value.toFixed(digits);
  return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−");
}

/** A number of which two digits are seen however small it is. */
export function precise(value, digits = 2) {
  if (value === 0 || Math.abs(value) >= 0.01) return readable(value, digits);
  return value.toPrecision(2).replaceAll("-", "−");
}

/** A sum of two shares of two pairs, such as "½ f(a, a) + ½ f(b, b)". */
export function mixture(share, first, second) {
  const term = (part, pair) => (part === 1 ? `f${pair}` : `${part === 0.5 ? "½" : readable(part)} f${pair}`);
  const terms = [[1 - share, first], [share, second]].filter(([part]) => part > 0);
  return terms.map(([part, pair]) => term(part, pair)).join(" + ");
}
