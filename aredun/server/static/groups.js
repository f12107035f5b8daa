// Which nodes of a large dataflow are drawn as one box: calls of one task, and values of one kind, in one layer.

const GROUP_FROM = 60;
const GROUP_SIZE = 4;
// Of an unfolded group only so many members have boxes of their own.
const UNFOLDED = 24;

// How far each node is from the root on the longest way, in the direction of the walk.
export function findRanks({ nodes, root }, isDownstream) {
  const beyond = (node) => (isDownstream ? node.outputs : node.inputs);
  const end = (edge) => (isDownstream ? edge.to : edge.from);
  const order = [];
  const states = new Map();
  const back = new Set();
  const visit = (start) => {
    const stack = [[start, 0]];
    states.set(start, 1);
    while (stack.length) {
      const top = stack[stack.length - 1];
      const edge = beyond(top[0])[top[1]];
      if (!edge) {
        states.set(top[0], 2);
        order.push(top[0]);
        stack.pop();
        continue;
      }
      top[1] += 1;
      const next = end(edge);
      if (!states.has(next)) {
        states.set(next, 1);
        stack.push([next, 0]);
      } else if (states.get(next) === 1) back.add(edge);
    }
  };
  if (root) visit(root);
  for (const node of nodes.values()) if (!states.has(node)) visit(node);
  const ranks = new Map();
  for (const node of order.reverse()) {
    const rank = ranks.get(node) ?? 0;
    ranks.set(node, rank);
    for (const edge of beyond(node)) if (!back.has(edge)) ranks.set(end(edge), Math.max(ranks.get(end(edge)) ?? 0, rank + 1));
  }
  return ranks;
}

const unique = (items) => [...new Set(items)].sort().join("+");

function groupKey(node, rank) {
  if (node.kind === "call") return `G${rank} ${node.task}`;
  const made = unique(node.inputs.map((edge) => edge.from.task));
  // Values from outside are told apart by what they are given to.
  const given = made ? "" : unique(node.outputs.flatMap((edge) => [...edge.names].map((name) => `${edge.to.task}.${name}`)));
  return `G${rank} ${made}>${given}`;
}

// Returns the boxes that there are to be, and the key of the box that each node is in.
export function groupNodes(flow, ranks, opened, isUrgent) {
  const boxOf = new Map();
  const groups = [];
  const single = (node, home = null) => {
    boxOf.set(node, node.key);
    groups.push({ key: node.key, members: [node], isGroup: false, home });
  };
  const several = (key, members, home = null) => {
    for (const node of members) boxOf.set(node, key);
    groups.push({ key, members, isGroup: true, home });
  };
  const isMany = flow.nodes.size > GROUP_FROM;
  const found = new Map();
  for (const node of flow.nodes.values()) {
    if (!isMany || node === flow.root) { single(node); continue; }
    const key = groupKey(node, ranks.get(node));
    const members = found.get(key);
    if (members) members.push(node);
    else found.set(key, [node]);
  }
  for (const [key, members] of found) {
    if (members.length < GROUP_SIZE) members.forEach((node) => single(node));
    else if (!opened.has(key)) several(key, members);
    else divide(key, members.sort((one, other) => isUrgent(other) - isUrgent(one)), opened, single, several);
  }
  return { boxOf, groups };
}

function divide(key, members, opened, single, several) {
  let home = key;
  let rest = members;
  while (rest.length > UNFOLDED && opened.has(home)) {
    rest.slice(0, UNFOLDED).forEach((node) => single(node, key));
    rest = rest.slice(UNFOLDED);
    home = `${key} +${members.length - rest.length}`;
  }
  if (rest.length >= GROUP_SIZE && !opened.has(home)) several(home, rest, key);
  else rest.forEach((node) => single(node, key));
}
