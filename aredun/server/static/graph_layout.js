// Has the server lay out what is drawn, and says so where that cannot be.

import { post } from "./api.js";

// What the server lays out; larger drawings stay as they grew.
const MAX_BOXES = 2000;
const MAX_LINKS = 4000;

export class GraphLayout {
  constructor(scene, canvas) {
    Object.assign(this, { scene, canvas });
    this.asked = 0;
    // Why the drawing is as it grew, and whether another try may help.
    this.problem = "";
    this.isTooLarge = false;
  }

  // The boxes go to their places; tells whether what was asked for is still what is drawn.
  async arrange(anchor = this.canvas.selected) {
    const { scene, canvas } = this;
    const asked = scene.describe();
    const { nodes, edges } = asked.shape;
    if (!nodes) return false;
    const number = this.asked += 1;
    this.isTooLarge = nodes > MAX_BOXES || edges.length > MAX_LINKS;
    const layout = this.isTooLarge ? null : await post("layout", asked.shape).catch((error) => this.fail(error.message));
    // What grew meanwhile, or was folded, is laid out by a request of its own.
    if (this.isClosed || number !== this.asked || asked.boxes.some((box, index) => box !== scene.boxes[index])) return false;
    if (this.isTooLarge) this.fail(`more than ${(nodes > MAX_BOXES ? MAX_BOXES : MAX_LINKS).toLocaleString("en")} ${nodes > MAX_BOXES ? "boxes" : "lines"}. ${scene.opened.size ? "Group them again, or fold" : "Fold"} boxes with C`);
    if (!layout) return true;
    this.problem = "";
    // What has hardly been seen yet is put in its place at once.
    const isSteady = canvas.isSettled && !matchMedia("(prefers-reduced-motion: reduce)").matches;
    scene.apply(asked, layout, anchor, isSteady);
    canvas.goAlong(isSteady);
    canvas.schedule();
    return true;
  }

  fail(reason) {
    this.problem = `not laid out: ${reason}`;
    return null;
  }

  close() {
    this.isClosed = true;
  }
}
