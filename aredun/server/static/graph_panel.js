// What is known of a box that was chosen: its record, or the members of a group.

import { dataflowLink } from "./dataflow_frame.js";
import { errorBox, h, refill, replace } from "./dom.js";
import { count, shortTask } from "./format.js";
import { loadDetails, makeDetails } from "./record.js";

const LISTED = 100;
// Lines to and from a box.
const LINKS = 40;

// What a line stands for: the argument, or the result, and the calls that only passed it on.
export function tellLink({ names, through, count: number, from, to }) {
  const name = [...names].filter(Boolean).join(", ");
  const passed = [...through].map(shortTask).join(", ");
  const what = to.kind === "call" ? `${name || "value"} of ${shortTask(to.task)}` : `result of ${shortTask(from.task)}`;
  return `${number > 1 ? `${number.toLocaleString("en")} × ` : ""}${what}${passed ? `, by way of ${passed}` : ""}`;
}

export class GraphPanel {
  constructor(element, labels, { onClose, onUnfold, onNode, onBox }) {
    Object.assign(this, { element, labels, onClose, onUnfold, onNode, onBox });
    this.named = [];
  }

  async show(box) {
    // Whoever goes from one to another within the panel stays in it.
    const isStaying = this.shown !== box && this.element.contains(document.activeElement);
    this.shown = box;
    this.element.hidden = !box;
    if (!box) return;
    const close = h("button", { class: "button quiet close", type: "button", on: { click: this.onClose } }, "Close");
    if (box.isGroup) {
      refill(this.element, close, this.describeGroup(box));
      if (isStaying) this.element.focus();
      return;
    }
    replace(this.element, close, h("p", { class: "sub" }, "Loading…"));
    if (isStaying) this.element.focus();
    const content = await loadDetails(...(box.node.job ? ["job", box.node.job] : [box.kind, box.node.hash])).then((record) => this.describe(record, box), errorBox);
    if (this.shown === box) refill(this.element, close, content);
  }

  describe(record, box) {
    const inside = record.children?.length ? h("p", { class: "flows" }, h("a", { class: "button primary", href: dataflowLink(box.node.hash, "inside") }, "Look inside")) : null;
    return [inside, this.describeLinks(box), makeDetails(record)];
  }

  // Members that failed come first.
  describeGroup(box) {
    const { labels } = this;
    const isFailed = (node) => labels.isFailed(node);
    const members = [...box.members].sort((one, other) => isFailed(other) - isFailed(one)).slice(0, LISTED);
    const failed = labels.count(box, "FAILED");
    const member = (node) => h("li", {}, h("button", { class: "button quiet mono", type: "button", on: { click: () => this.onNode(node) } }, labels.member(node)), isFailed(node) ? h("span", { class: "group-failed" }, "failed") : null);
    return h("article", { class: "details" }, h("p", { class: "crumbs" }, "group"),
      h("h2", {}, `${box.members.length.toLocaleString("en")} × ${box.kind === "call" ? shortTask(box.task) : labels.title(box)}`),
      failed ? h("p", { class: "group-failed" }, `${count(failed, "call")} failed`) : null,
      h("p", { class: "flows" }, h("button", { class: "button primary", type: "button", on: { click: () => this.onUnfold(box) } }, "Unfold")),
      this.describeLinks(box),
      h("ul", { class: "links group-members" }, members.map(member)));
  }

  // The lines of a box, for whoever has no pointer to point at them.
  describeLinks(box) {
    const list = (title, links, end) => (links.length ? [h("dt", {}, title), links.slice(0, LINKS).map((link) => this.describeLink(link, link[end])),
      links.length > LINKS ? h("dd", { class: "sub" }, `and ${(links.length - LINKS).toLocaleString("en")} more`) : null] : null);
    this.named = [];
    const lists = [list("From", box.inputs.filter((link) => link.from.isShown), "from"), list("To", box.outputs.filter((link) => link.to.isShown), "to")];
    this.labels.want(this.named.map(([, other]) => other));
    return lists.some(Boolean) ? h("dl", { class: "box-links" }, lists) : null;
  }

  describeLink(link, other) {
    const button = h("button", { class: "button quiet", type: "button", on: { click: () => this.onBox(other) } }, this.name(other));
    this.named.push([button, other]);
    return h("dd", {}, button, h("span", { class: "sub" }, tellLink(link)));
  }

  name(box) {
    return `${this.labels.title(box)}${box.isGroup ? ` ×${box.members.length.toLocaleString("en")}` : ""}`;
  }

  // The members of a group are named by what is loaded for them while they are listed, and so are the ends of lines.
  refresh() {
    if (this.shown?.isGroup) this.show(this.shown);
    else for (const [button, box] of this.named) button.textContent = this.name(box);
  }
}
