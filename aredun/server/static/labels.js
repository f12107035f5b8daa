// What is written on the boxes of a dataflow: asked for in bulk, once a box is seen.

import { get } from "./api.js";
import { shorten, shortTask } from "./format.js";

const BULK = 80;
const STATUS_BULK = 250;
const PAUSE = 60;
// Arguments are recorded when a call ends.
const UNENDED = { RUNNING: "running", ABANDONED: "abandoned" };

export class Labels {
  constructor(onChange) {
    this.onChange = onChange;
    this.calls = new Map();
    this.values = new Map();
    this.asked = new Set();
    // Goes up with every status that comes.
    this.version = 0;
    this.counted = new WeakMap();
    this.waiting = { calls: new Set(), values: new Set(), statuses: new Set() };
  }

  // Asks for what some boxes show, a little later, together with what others show.
  want(boxes) {
    for (const box of boxes) {
      const shown = box.isGroup ? (box.kind === "value" ? box.members.slice(0, 2) : []) : box.members;
      for (const node of shown) this.add(node.kind === "call" ? "calls" : "values", node.hash);
      if (box.isGroup && box.kind === "call") for (const node of box.members) this.add("statuses", node.hash);
    }
    const { calls, values, statuses } = this.waiting;
    if (calls.size + values.size + statuses.size) this.timer ??= setTimeout(() => this.load(), PAUSE);
  }

  add(kind, hash) {
    const key = `${kind} ${hash}`;
    if (this.asked.has(key)) return;
    this.asked.add(key);
    this.waiting[kind].add(hash);
  }

  take(kind, size) {
    const hashes = [...this.waiting[kind]].slice(0, size);
    for (const hash of hashes) this.waiting[kind].delete(hash);
    return hashes;
  }

  async load() {
    const calls = this.take("calls", BULK);
    const values = this.take("values", BULK);
    const statuses = this.take("statuses", STATUS_BULK);
    // A drawing without its labels still is one: what cannot be had is shown by its hash.
    const ask = (path, parameters, hashes) => (hashes.length && !this.isClosed ? get(path, parameters).catch(() => []) : []);
    const [called, valued, ended] = await Promise.all([
      ask("call-labels", { call_hash: calls }, calls), ask("value-labels", { value_hash: values }, values),
      ask("call-labels", { call_hash: statuses, arguments: false }, statuses),
    ]);
    for (const label of ended) if (!this.calls.has(label.call_hash)) this.calls.set(label.call_hash, label);
    for (const label of called) this.calls.set(label.call_hash, label);
    for (const label of valued) this.values.set(label.value_hash, label);
    this.timer = null;
    this.version += 1;
    if (this.isClosed) return;
    this.want([]);
    this.onChange();
  }

  // Returns once all is there that some boxes show.
  async loadAll(boxes) {
    this.want(boxes);
    while (this.timer && !this.isClosed) await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }

  // A job of a call has ended: its status may be another, and the call may be new.
  setStatus(call, status) {
    const label = this.calls.get(call);
    if (label) label.status = status;
    this.version += 1;
  }

  // What is known of a call, or of a job that has led to none, without asking; a null text is asked for.
  tell(hash, status, text) {
    if (text !== null) this.asked.add(`calls ${hash}`);
    this.calls.set(hash, { ...this.calls.get(hash), ...(text === null ? {} : { arguments: text }), status });
    this.version += 1;
  }

  isFailed(node) {
    return this.calls.get(node.hash)?.status === "FAILED";
  }

  count(box, status) {
    return box.kind === "call" ? this.counts(box)[status] ?? 0 : 0;
  }

  // Every frame asks: members are only looked at again when there are others, or other statuses.
  counts({ members }) {
    const known = this.counted.get(members);
    if (known?.version === this.version) return known.counts;
    const counts = {};
    for (const node of members) {
      const status = this.calls.get(node.hash)?.status;
      if (status) counts[status] = (counts[status] ?? 0) + 1;
    }
    this.counted.set(members, { version: this.version, counts });
    return counts;
  }

  status(box) {
    if (box.kind !== "call") return null;
    if (box.isGroup) return ["FAILED", "RUNNING"].find((status) => this.count(box, status)) ?? null;
    return this.calls.get(box.node.hash)?.status ?? null;
  }

  valueTitle(node) {
    const label = this.values.get(node.hash);
    return label ? label.path?.split("/").filter(Boolean).pop() ?? shorten(label.preview ?? label.value_type) : node.name || node.hash.slice(0, 8);
  }

  title(box) {
    if (box.kind === "call") return shortTask(box.task) || "call";
    if (!box.isGroup) return this.valueTitle(box.node);
    return this.values.get(box.node.hash)?.path ? "files" : "values";
  }

  subtitle(box) {
    if (box.kind === "call") {
      const label = this.calls.get(box.node.hash);
      if (!box.isGroup) return shorten(label?.arguments || UNENDED[label?.status] || "");
      const counted = [["FAILED", "failed"], ["RUNNING", "running"], ["CACHED", "cached"]].map(([status, name]) => [this.count(box, status), name]).filter(([number]) => number);
      return counted.map(([number, name]) => `${number.toLocaleString("en")} ${name}`).join(" · ");
    }
    const value = this.values.get(box.node.hash);
    if (!value) return "";
    if (box.isGroup) return `${this.valueTitle(box.node)}, …`;
    const folder = value.path?.split("/").slice(0, -1).join("/");
    return folder || (value.path ? "file" : value.value_type.split(".").pop());
  }

  // All that is known of a node, for whoever points at it.
  full(node) {
    if (node.kind === "call") return `${node.task}(${this.calls.get(node.hash)?.arguments ?? ""})`;
    const label = this.values.get(node.hash);
    return label?.path ?? label?.preview ?? node.hash;
  }

  // How a member of a group is listed.
  member(node) {
    const text = node.kind === "call" ? this.calls.get(node.hash)?.arguments : null;
    this.add(node.kind === "call" ? "calls" : "values", node.hash);
    this.want([]);
    return text ? shorten(text) : this.valueTitle(node);
  }

  close() {
    this.isClosed = true;
    clearTimeout(this.timer);
  }
}
