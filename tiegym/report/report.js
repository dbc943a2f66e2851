"use strict";
const tip = document.getElementById("tip");
// What is drawn, as numbers: {"lines": [[[iteration, value], ...], ...], "films": [{"iterations", "ties", "layers"}, ...]}.
const data = JSON.parse(document.getElementById("data").textContent);
function show(event, text) {
  tip.textContent = text;
  tip.style.display = "block";
  tip.style.left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8) + "px";
  tip.style.top = Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8) + "px";
}
for (const box of document.querySelectorAll("[data-toggle]"))
  box.addEventListener("change", () => {
    for (const part of document.querySelectorAll(`[data-group="${box.dataset.toggle}"]`))
      part.classList.toggle("hidden", !box.checked);
  });
for (const part of document.querySelectorAll("[data-tip]"))
  part.addEventListener("mousemove", (event) => {
    let text = part.dataset.tip;
    if (part.dataset.line) {
      const points = data.lines[part.dataset.line], svg = part.ownerSVGElement;
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse()).x;
      const x = (at - 52) / 496 * Number(svg.dataset.end);
      const near = points.reduce((a, b) => Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a);
      text += `\niteration ${near[0]}: ${Number(near[1].toPrecision(4))}`;
    }
    show(event, text);
  });
for (const image of document.querySelectorAll(".film img")) {
  const { ties, iterations, layers } = data.films[image.dataset.film];
  image.addEventListener("mousemove", (event) => {
    const box = image.getBoundingClientRect(), units = ties[0].length;
    const k = Math.min(ties.length - 1, Math.max(0, Math.floor((event.clientX - box.left) / box.width * ties.length)));
    const unit = Math.min(units - 1, Math.max(0, units - 1 - Math.floor((event.clientY - box.top) / box.height * units)));
    let root = unit;  // everything points at itself or at something earlier: this ends
    while (ties[k][root] < root) root = ties[k][root];
    const part = units === layers ? "" : unit < layers ? ", attention" : ", MLP";
    show(event, `iteration ${iterations[k]}, layer ${unit % layers}${part}\n` + (root === unit ? "its own weights" : `the weights of layer ${root % layers}`));
  });
}
document.addEventListener("mouseout", () => { tip.style.display = "none"; });
