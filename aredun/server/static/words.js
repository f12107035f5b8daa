// A dataflow in words: what each value came from, paragraph by paragraph; or its boxes, and what they lead to.

import { h } from "./dom.js";
import { shorten } from "./format.js";

const SHOWN = 2000;
// Of the neighbours of a box so many are named.
const NAMED = 6;
const BEGINS = "nothing is recorded before it";

function clause(item) {
  const shown = h("span", { class: "mono" }, item.display);
  return [item.prefix ? `an ${item.prefix} ` : "", item.hash ? h("a", { href: `#/call/${item.hash}`, class: "mono" }, item.display) : shown];
}

// Another name that a value has: it is told of in a paragraph of its own.
function isName(item) {
  return !item.prefix && !item.display.includes("(");
}

// An origin is no place that something came by: it is where the trail begins.
function isOrigin(item) {
  return !item.hash && item.display === "origin";
}

function sentence({ var_name: name, ...item }) {
  if (isOrigin(item)) return ` is an origin: ${BEGINS}`;
  // A value that was put together of the results that are listed below it.
  if (!item.hash && item.display === "derives from") return " was made of:";
  return [isName(item) ? " is " : " came from ", clause(item)];
}

function paragraph({ assign, routing, args }) {
  return h("li", {},
    h("p", {}, h("b", { class: "mono" }, assign.var_name), sentence(assign)),
    routing.map((item) => h("p", { class: "by-way" }, isOrigin(item) ? `It is an origin: ${BEGINS}.` : [isName(item) ? "that is " : "by way of ", clause(item)])),
    args.length ? h("dl", { class: "word-args" }, args.map((argument) => [
      h("dt", { class: "mono" }, argument.var_name),
      h("dd", { class: "mono" }, h("a", { href: `#/value/${argument.hash}`, title: argument.value_display }, shorten(argument.value_display)))])) : null);
}

export function makeWords(sections, isDone) {
  const nothing = isDone ? h("li", {}, "Nothing is recorded before it.") : null;
  return [
    sections.length ? sections.slice(0, SHOWN).map(paragraph) : nothing,
    sections.length > SHOWN ? h("li", {}, `The first ${SHOWN.toLocaleString("en")} of ${sections.length.toLocaleString("en")} paragraphs.`) : null,
    isDone ? null : h("li", {}, "Still walking…"),
  ];
}

const number = (count) => count.toLocaleString("en");

function nameBox(box, labels) {
  if (box.isGroup) return `${number(box.members.length)} × ${labels.title(box)}`;
  return box.kind === "call" && !box.node.job ? `${labels.title(box)}(${labels.subtitle(box)})` : labels.title(box);
}

function neighbours(box) {
  const shown = (others) => others.filter((other) => other.isShown);
  return [shown(box.inputs.map((link) => link.from)), shown(box.outputs.map((link) => link.to))];
}

function nameAll(boxes, labels) {
  const names = boxes.slice(0, NAMED).map((box) => nameBox(box, labels));
  return boxes.length > NAMED ? `${names.join(", ")} and ${number(boxes.length - NAMED)} more` : names.join(", ");
}

// The boxes whose labels are needed to tell of one.
export function toldBoxes(box) {
  return [box, ...neighbours(box).flatMap((boxes) => boxes.slice(0, NAMED))];
}

function tellStatus(box, labels) {
  if (box.isGroup) return labels.subtitle(box);
  const status = labels.status(box);
  return status && status !== "DONE" ? status.toLowerCase() : "";
}

function tellNeighbours(box, labels) {
  const [inputs, outputs] = neighbours(box);
  return [inputs.length ? `From ${nameAll(inputs, labels)}.` : "Nothing before it.", outputs.length ? `To ${nameAll(outputs, labels)}.` : "Nothing after it."];
}

// What is said of a box that was chosen.
export function tellBox(box, labels) {
  const kind = box.isGroup ? "Group" : box.kind === "call" ? "Call" : "Value";
  return [`${[`${kind} ${nameBox(box, labels)}`, tellStatus(box, labels)].filter(Boolean).join(", ")}.`, ...tellNeighbours(box, labels)].join(" ");
}

// A drawing as a list, in the direction of the data.
export function makeBoxes(boxes, labels, onChoose, isDone) {
  const ordered = [...boxes].sort((one, other) => one.column - other.column || one.row - other.row);
  labels.want(ordered.slice(0, SHOWN));
  const item = (box) => h("li", {},
    h("p", {}, h("button", { class: "button quiet mono", type: "button", data: { key: box.key }, on: { click: () => onChoose(box) } }, nameBox(box, labels)), h("span", { class: "told-status" }, tellStatus(box, labels))),
    tellNeighbours(box, labels).map((text) => h("p", { class: "by-way" }, text)));
  return [
    ordered.slice(0, SHOWN).map(item),
    ordered.length > SHOWN ? h("li", {}, `The first ${number(SHOWN)} of ${number(ordered.length)} boxes.`) : null,
    isDone ? null : h("li", {}, "Still walking…"),
  ];
}
