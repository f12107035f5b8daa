// A dataflow in words: what each value came from, paragraph by paragraph.

import { h } from "./dom.js";
import { shorten } from "./format.js";

const SHOWN = 2000;
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
