// A dataflow as calls and values, in the direction of the data, made of the edges of a walk.
//
// A walk follows values through arguments and results. Here a value has one place for each call that returned it, an
// argument is an edge from a value to a call, and calls that only passed a value on are noted on it.

// Of a way through many calls only the first are told.
const TOLD = 12;

class Step {
  constructor(key, message) {
    this.key = key;
    this.kind = message.kind;
    this.call = message.call_hash;
    this.task = message.task;
    this.value = message.value_hash;
    this.name = message.name;
    this.inputs = [];
    this.isLeft = false;
  }
}

function stepKey(node) {
  switch (node.kind) {
    case "Value": return `V${node.value_hash}`;
    case "CallNode": return `C${node.call_hash}`;
    case "ArgumentValue": return `A${node.arg_hash}${node.value_hash}`;
    default: return `R${node.call_hash}${node.value_hash}`;
  }
}

export class Flow {
  constructor(isDownstream) {
    this.isDownstream = isDownstream;
    this.steps = new Map();
    this.links = new Set();
    this.root = null;
    // While what is walked has led to no call, there is nothing that all else leads to.
    this.isOpen = false;
    this.edges = 0;
  }

  add(edge) {
    this.edges += 1;
    const src = this.step(edge.src);
    if (!this.isOpen) this.root ??= src;
    // The walk has left this step: all that it leads to follows at once.
    src.isLeft = true;
    if (edge.dest === null) return;
    const dest = this.step(edge.dest);
    const link = `${src.key}>${dest.key}`;
    if (src === dest || this.links.has(link)) return;
    this.links.add(link);
    if (this.isDownstream) dest.inputs.push(src);
    else src.inputs.push(dest);
  }

  step(message) {
    const key = stepKey(message);
    let step = this.steps.get(key);
    if (!step) this.steps.set(key, step = new Step(key, message));
    return step;
  }

  // The graph as far as it is known; what is still being followed appears later, unless all is there.
  fold(isComplete) {
    return new Fold(this, isComplete).make();
  }
}

class Fold {
  constructor(flow, isComplete) {
    this.flow = flow;
    // Upstream a step's inputs are known once the walk has left it; downstream they came first.
    this.isKnown = (step) => isComplete || flow.isDownstream || step.isLeft;
    this.nodes = new Map();
    this.edges = new Map();
    this.places = new Map();
    this.sources = new Map();
  }

  make() {
    const { root, steps } = this.flow;
    if (!steps.size) return { nodes: this.nodes, edges: [], root: null };
    this.passing = this.findPassing();
    this.root = !root ? null : root.kind === "CallNode" ? this.callNode(root) : this.valueOf(root);
    // What others are made of comes first: a walk may be longer than functions can call each other.
    const ordered = [...steps.values()];
    if (!this.flow.isDownstream) ordered.reverse();
    for (const step of ordered) if (step.kind !== "CallNode") this.sourcesOf(step);
    for (const step of ordered) if (step.kind === "CallNode") this.addCall(step);
    return { nodes: this.nodes, edges: [...this.edges.values()], root: this.root };
  }

  // Calls that return what other calls of theirs returned: what they hold is shown in their place.
  findPassing() {
    const passing = new Set();
    for (const step of this.flow.steps.values()) if (this.hasResults(step)) passing.add(step.call);
    return passing;
  }

  hasResults(step) {
    return step.kind === "CallNodeValue" && this.flow.isDownstream && step !== this.flow.root
      && step.inputs.some((input) => input.kind === "CallNodeValue" && input.call !== step.call);
  }

  isMadeOfResults(step) {
    return step.kind === "CallNodeValue" && this.passing.has(step.call) && step !== this.flow.root;
  }

  node(key, kind, hash, task) {
    let node = this.nodes.get(key);
    if (!node) this.nodes.set(key, node = { key, kind, hash, task, name: "", through: new Set(), inputs: [], outputs: [] });
    return node;
  }

  callNode(step) {
    return this.node(`C${step.call}`, "call", step.call, step.task);
  }

  edge(from, to, name, through = []) {
    if (!from || !to || from === to) return;
    const key = `${from.key}>${to.key}`;
    let edge = this.edges.get(key);
    if (!edge) {
      this.edges.set(key, edge = { from, to, names: new Set(), through: new Set() });
      from.outputs.push(edge);
      to.inputs.push(edge);
    }
    if (name) edge.names.add(name);
    for (const task of through) edge.through.add(task);
  }

  addCall(step) {
    if (this.passing.has(step.call) && step !== this.flow.root) return;
    const node = this.callNode(step);
    for (const input of step.inputs) {
      if (input.kind !== "ArgumentValue") {
        this.edge(this.valueOf(input), node, "task");
        continue;
      }
      for (const source of this.sourcesOf(input)) {
        this.edge(source.node, node, input.name, source.through);
      }
    }
  }

  // Where the value of a result, or of the walk's start, stands; null while it is not known who returned it.
  valueOf(step) {
    if (this.places.has(step)) return this.places.get(step);
    this.places.set(step, null);
    const node = this.findValue(step);
    this.places.set(step, node);
    return node;
  }

  findValue(step) {
    const isRoot = step === this.flow.root;
    if (!isRoot && !this.isKnown(step)) return null;
    const same = isRoot ? null : step.inputs.find((input) => input.kind !== "CallNode" && input.value === step.value);
    if (same && same.kind !== "ArgumentValue") {
      const [{ node } = {}] = this.sourcesOf(same);
      if (node && step.task) node.through.add(step.task);
      return node;
    }
    const maker = step.kind === "CallNodeValue" ? step.call : "";
    const node = this.node(isRoot ? "root" : `V${step.value}@${maker}`, "value", step.value, null);
    for (const input of step.inputs) this.addMaker(step, input, node);
    if (!step.inputs.length && maker && !this.flow.isDownstream) this.edge(this.callNode(step), node, "");
    return node;
  }

  addMaker(step, input, node) {
    if (input.kind === "CallNode") {
      this.edge(this.callNode(input), node, "");
    } else if (input.kind === "CallNodeValue" && input.value === step.value) {
      // The start of the walk: whoever returned it, and whoever passed it on.
      const maker = this.findMaker(input, node);
      if (maker) this.edge(maker, node, "");
    } else {
      for (const source of this.sourcesOf(input)) this.edge(source.node, node, "part", source.through);
    }
  }

  findMaker(start, node) {
    for (let step = start; step && !this.places.has(step) && this.isKnown(step);) {
      this.places.set(step, node);
      const passed = step.inputs.find((input) => input.kind === "CallNodeValue" && input.value === step.value);
      if (!passed) return this.callNode(step.inputs.find((input) => input.kind === "CallNode") ?? step);
      node.through.add(step.task);
      step = passed;
    }
    return null;
  }

  // The values that an argument was made of: itself, what its caller was given, or the results that it holds.
  sourcesOf(step) {
    if (step.kind !== "ArgumentValue" && !this.isMadeOfResults(step)) {
      const node = this.valueOf(step);
      return node ? [{ node, through: [] }] : [];
    }
    const known = this.sources.get(step);
    if (known) return known;
    this.sources.set(step, []);
    const found = this.findSources(step);
    this.sources.set(step, found);
    return found;
  }

  findSources(step) {
    if (!this.isKnown(step)) return [];
    if (!step.inputs.length) {
      const node = this.node(`V${step.value}`, "value", step.value, null);
      node.name ||= step.name ?? "";
      return [{ node, through: [] }];
    }
    const found = new Map();
    // Beside the results of its calls, a call that passes them on made nothing; beside a value itself, what holds it tells
    // nothing.
    const inputs = step.inputs.filter((input) => input.kind !== "CallNode");
    const exact = inputs.filter((input) => input.value === step.value);
    for (const input of exact.length ? exact : inputs) {
      for (const source of this.sourcesOf(input)) {
        const isPassed = input.kind === "ArgumentValue" || this.isMadeOfResults(input);
        const through = isPassed && source.through.length < TOLD ? [...source.through, input.task] : source.through;
        if (!found.has(source.node)) found.set(source.node, { node: source.node, through });
      }
    }
    return [...found.values()];
  }
}
