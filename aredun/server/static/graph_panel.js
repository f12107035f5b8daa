// What is known of a box that was chosen: its record, or the members of a group.

import { dataflowLink } from "./dataflow_frame.js";
import { errorBox, h, refill, replace } from "./dom.js";
import { count, shortTask } from "./format.js";
import { loadDetails, makeDetails } from "./record.js";

const LISTED = 100;

export class GraphPanel {
  constructor(element, labels, { onClose, onUnfold, onNode }) {
    Object.assign(this, { element, labels, onClose, onUnfold, onNode });
  }

  async show(box) {
    this.shown = box;
    this.element.hidden = !box;
    if (!box) return;
    const close = h("button", { class: "button quiet close", type: "button", on: { click: this.onClose } }, "Close");
    if (box.isGroup) {
      refill(this.element, close, this.describeGroup(box));
      return;
    }
    replace(this.element, close, h("p", { class: "sub" }, "Loading…"));
    const content = await loadDetails(box.kind, box.node.hash).then((record) => this.describe(record, box), errorBox);
    if (this.shown === box) replace(this.element, close, content);
  }

  describe(record, box) {
    const inside = record.children?.length ? h("p", { class: "flows" }, h("a", { class: "button primary", href: dataflowLink(box.node.hash, "inside") }, "Look inside")) : null;
    return [inside, makeDetails(record)];
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
      h("ul", { class: "links group-members" }, members.map(member)));
  }

  // The members of a group are named by what is loaded for them while they are listed.
  refresh() {
    if (this.shown?.isGroup) this.show(this.shown);
  }
}
