/* Every text and shape of the interactive picture, its contrast with each ground that it may stand on, and the least
 * that WCAG 2 AA asks of it: 4.5 for text, 3 for what is drawn. */
() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].map((x) => x / 255);
  };
  const over = (front, back) => front.slice(0, 3).map((x, i) => x * front[3] + back[i] * (1 - front[3]));
  const ground = (element) => {
    if (!element) return [1, 1, 1];
    const color = rgba(getComputedStyle(element).backgroundColor);
    return color[3] === 1 ? color.slice(0, 3) : over(color, ground(element.parentElement));
  };
  const light = (color) => {
    const [r, g, b] = color.map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (x, y) => (Math.max(light(x), light(y)) + 0.05) / (Math.min(light(x), light(y)) + 0.05);
  const sides = [...document.querySelectorAll(".xor-side-same, .xor-side-different")];
  const found = [];
  for (const element of document.querySelectorAll(".xor *")) {
    const style = getComputedStyle(element);
    const drawn = element instanceof SVGElement;
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    const shape = element.matches(".xor-segment, .xor-point, .xor-best, .xor-gap, .xor-ring, .xor-ray, .xor-loss");
    if (!(own || shape)) continue;
    const dot = element.closest(".xor-handle")?.querySelector(".xor-dot");
    const grounds = dot ? [rgba(getComputedStyle(dot).fill)] : [ground(element)];
    const fused = !dot && element.closest("svg")?.querySelector(".xor-segment");
    if (fused) grounds.push(...sides.map((side) => rgba(getComputedStyle(side).fill)));
    const ink = rgba(!drawn ? style.color : own || element.matches(".xor-point") ? style.fill : style.stroke);
    const what = `${element.getAttribute("class")} ${element.textContent}`;
    for (const back of grounds.map((x) => x.slice(0, 3))) found.push([what, contrast(over(ink, back), back), own ? 4.5 : 3]);
  }
  return found;
}
