// The address of a dataflow, once it is known what its id stands for.

import { get } from "./api.js";
import { recordId } from "./search.js";

// `-` and the beginning of an id may stand for something else tomorrow: the whole id does not. Returns it, or null.
export async function findWholeId(id) {
  const isLatest = /^[-~]\d*$/.test(id);
  if (!isLatest && (!/^[0-9a-f-]{1,39}$/i.test(id) || /^[0-9a-f-]{36}$/i.test(id))) return null;
  const { hits } = await get("search", { text: id, limit: 1 }).catch(() => ({ hits: [] }));
  const whole = hits.length ? recordId(hits[0].record) : null;
  return whole && (isLatest || whole.startsWith(id.toLowerCase())) ? whole : null;
}
