// Finds boxes of a graph by what is written on them, and what is in them.

export class GraphSearch {
  constructor(frame, canvas, { onGo, reveal }) {
    Object.assign(this, { frame, canvas, onGo, reveal });
    this.matches = [];
  }

  run() {
    const text = this.frame.find.value.trim().toLowerCase();
    this.matches = text ? [...this.canvas.scene.all.values()].filter((box) => this.isMatch(box, text)) : [];
    this.canvas.matches = text ? new Set(this.matches) : null;
    this.index = this.matches.indexOf(this.canvas.selected);
    this.frame.found.textContent = text ? `${this.matches.length} found` : "";
    this.canvas.schedule();
  }

  isMatch(box, text) {
    const { labels } = this.canvas;
    return [box.task, labels.title(box)].some((part) => part?.toLowerCase().includes(text))
      || box.members.some((node) => node.hash.startsWith(text) || labels.full(node).toLowerCase().includes(text));
  }

  next() {
    if (!this.matches.length) return;
    this.index = (this.index + 1) % this.matches.length;
    const { index, matches } = this;
    const box = matches[index].isShown ? matches[index] : this.reveal(matches[index].node);
    this.canvas.centre(box);
    this.onGo(box);
    this.frame.found.textContent = `${index + 1} of ${matches.length}`;
  }
}
