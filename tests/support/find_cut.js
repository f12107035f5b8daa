// Tells what of a page a person cannot read: cut, out of sight, broken apart, or upon something else.
() => {
  const found = [];
  const styles = new Map();
  const styleOf = (item) => styles.get(item) ?? styles.set(item, getComputedStyle(item)).get(item);
  const tell = (why, item, text = "") => found.push(`${why}: ${text} ${item.outerHTML.slice(0, 200)}`);
  const isSeen = (item) => item.checkVisibility({ visibilityProperty: true }) && !item.closest(".sr, .skip");
  const isWhole = styleOf(document.body).overflowY !== "hidden";

  // What is left of a text's place where the boxes around it end; null if it is scrolled away.
  function clip(node, place) {
    let { left, right, top, bottom } = place;
    for (let box = node.parentElement; box !== document.body; box = box.parentElement) {
      const style = styleOf(box);
      if (style.overflowX !== "visible" && style.display !== "inline") {
        const edge = box.getBoundingClientRect();
        if (style.overflowY !== "hidden" && (bottom < edge.top + 1 || top > edge.bottom - 1)) return null;
        // As long as users make them, and told whole by a title.
        const isShort = style.textOverflow === "ellipsis" && box.closest("[title]");
        if (!isShort && (left < edge.left - 1 || right > edge.right + 1)) return "cut at a side";
        const isClamped = style.webkitLineClamp !== "none";
        if (style.overflowY === "hidden" && !isClamped && (top < edge.top - 4 || bottom > edge.bottom + 4)) return "cut above or below";
        [left, right, top, bottom] = [Math.max(left, edge.left), Math.min(right, edge.right), Math.max(top, edge.top), Math.min(bottom, edge.bottom)];
      }
      if (style.position === "fixed") break;
    }
    if (left < -1 || right > innerWidth + 1) return "beside the window";
    if (!isWhole && bottom > innerHeight + 4) return "below the window";
    return { left, right, top, bottom };
  }

  function isBroken(range, node) {
    for (const { index, 0: word } of node.data.matchAll(/(?<!\S)[\p{L}\p{N}]{2,12}(?!\S)/gu)) {
      range.setStart(node, index);
      range.setEnd(node, index + word.length);
      if (new Set([...range.getClientRects()].map(({ top }) => Math.round(top))).size > 1) return true;
    }
    return false;
  }

  function findTexts() {
    const texts = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const range = document.createRange();
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const item = node.parentElement;
      // Code is scrolled from side to side; what stands in a choice is measured below.
      if (!node.data.trim() || item.closest("pre, select, noscript, script") || !isSeen(item)) continue;
      range.selectNodeContents(node);
      const places = [...range.getClientRects()].filter(({ width }) => width);
      // A space at the end of a line hangs over where spaces are kept.
      const { whiteSpace, fontSize } = styleOf(item);
      const hang = whiteSpace === "pre-wrap" ? parseFloat(fontSize) * 0.65 : 0;
      for (const place of places) {
        const { left: begin, right: end, top, bottom } = place;
        const left = clip(node, { left: begin, right: place === places.at(-1) ? end : end - hang, top, bottom });
        if (typeof left === "string") { tell(left, item, node.data); break; }
        if (left) texts.push({ item, ...left });
      }
      if (places.length > 1 && isBroken(range, node)) tell("broken apart", item, node.data);
    }
    return texts;
  }

  // Whether two texts are to be seen at one place: what is below a ground of its own is not.
  function isUpon(one, other) {
    const [left, right] = [Math.max(one.left, other.left), Math.min(one.right, other.right)];
    const [top, bottom] = [Math.max(one.top, other.top), Math.min(one.bottom, other.bottom)];
    if (right - left < 3 || bottom - top < 6 || one.item === other.item) return false;
    const stack = document.elementsFromPoint((left + right) / 2, (top + bottom) / 2);
    const ground = stack.findIndex((item) => /^rgb\(/.test(styleOf(item).backgroundColor));
    return [one, other].every(({ item }) => stack.includes(item) && stack.indexOf(item) <= ground);
  }

  function checkChoice(choice) {
    const chosen = choice.selectedOptions[0];
    if (!chosen || choice.title.includes(chosen.text)) return;
    const copy = choice.cloneNode(false);
    copy.append(chosen.cloneNode(true));
    copy.style.cssText = "position: absolute; width: auto; max-width: none; min-width: 0";
    choice.after(copy);
    const isCut = copy.offsetWidth > choice.offsetWidth + 1;
    copy.remove();
    if (isCut) tell("cut", choice, chosen.text);
  }

  function checkPlaceholder(input) {
    const style = styleOf(input);
    const context = document.createElement("canvas").getContext("2d");
    context.font = style.font;
    const button = getComputedStyle(input, "::-webkit-search-cancel-button");
    const room = input.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight) - (button.display === "none" ? 0 : 16);
    if (context.measureText(input.placeholder).width > room) tell("cut", input, input.placeholder);
  }

  if (document.documentElement.scrollWidth > innerWidth) found.push("the page is wider than its window");
  const texts = findTexts();
  texts.forEach((one, index) => {
    const other = texts.slice(0, index).find((before) => isUpon(one, before));
    if (other) tell(`upon “${other.item.textContent.slice(0, 60)}”`, one.item);
  });
  for (const item of document.querySelectorAll("a, button, input, select")) {
    if (!isSeen(item)) continue;
    const { left, right, width } = item.getBoundingClientRect();
    if (left < 0 || right > innerWidth) tell("beside the window", item);
    if (width && width < (item.type === "search" ? 100 : 16)) tell("too narrow", item);
    if (item.localName === "select") checkChoice(item);
    if (item.placeholder && !item.value) checkPlaceholder(item);
  }
  return found;
}
