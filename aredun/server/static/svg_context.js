// As much of a canvas as the painter needs, written down as an SVG.

const number = (value) => String(Math.round(value * 100) / 100);
const escape = (text) => String(text).replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`)
  // XML has no room for control characters or halves of a pair.
  .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, "?").toWellFormed();

export class SvgContext {
  constructor() {
    this.parts = [];
    this.path = [];
    this.ruler = document.createElement("canvas").getContext("2d");
    Object.assign(this, { fillStyle: "#000", strokeStyle: "#000", lineWidth: 1, globalAlpha: 1, font: "13px sans-serif", textAlign: "left", textBaseline: "middle" });
  }

  beginPath() {
    this.path = [];
  }

  step(letter, ...values) {
    this.path.push(`${letter}${values.map(number).join(" ")}`);
  }

  moveTo(x, y) { this.step("M", x, y); }

  lineTo(x, y) { this.step("L", x, y); }

  bezierCurveTo(...values) { this.step("C", ...values); }

  closePath() { this.path.push("Z"); }

  arc(x, y, radius) {
    this.step("M", x - radius, y);
    for (const side of [1, -1]) this.step("A", radius, radius, 0, 0, 1, x + side * radius, y);
  }

  roundRect(x, y, width, height, radii) {
    const [topLeft, topRight, bottomRight, bottomLeft] = Array.isArray(radii) ? radii : [radii, radii, radii, radii];
    const corner = (radius, toX, toY) => { if (radius) this.step("A", radius, radius, 0, 0, 1, toX, toY); };
    this.moveTo(x + topLeft, y);
    this.lineTo(x + width - topRight, y);
    corner(topRight, x + width, y + topRight);
    this.lineTo(x + width, y + height - bottomRight);
    corner(bottomRight, x + width - bottomRight, y + height);
    this.lineTo(x + bottomLeft, y + height);
    corner(bottomLeft, x, y + height - bottomLeft);
    this.lineTo(x, y + topLeft);
    corner(topLeft, x + topLeft, y);
    this.closePath();
  }

  fill() {
    this.add("path", `d="${this.path.join("")}" fill="${escape(this.fillStyle)}"`);
  }

  stroke() {
    this.add("path", `d="${this.path.join("")}" fill="none" stroke="${escape(this.strokeStyle)}" stroke-width="${number(this.lineWidth)}"`);
  }

  measureText(text) {
    this.ruler.font = this.font;
    return this.ruler.measureText(text);
  }

  fillText(text, x, y) {
    const anchor = { center: "middle", right: "end" }[this.textAlign] ?? "start";
    this.add("text", `x="${number(x)}" y="${number(y)}" text-anchor="${anchor}" dominant-baseline="central" style="font:${escape(this.font)}" fill="${escape(this.fillStyle)}"`, escape(text));
  }

  add(name, attributes, content = "") {
    const faint = this.globalAlpha < 1 ? ` opacity="${number(this.globalAlpha)}"` : "";
    this.parts.push(`<${name} ${attributes}${faint}>${content}</${name}>`);
  }

  toString({ left, top, width, height }, ground) {
    const box = [left, top, width, height].map(number).join(" ");
    return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="${box}" width="${number(width)}" height="${number(height)}">`
      + `<rect x="${number(left)}" y="${number(top)}" width="${number(width)}" height="${number(height)}" fill="${escape(ground)}"/>${this.parts.join("\n")}</svg>\n`;
  }
}
