// Light, dark, or as the system has it: the choice stays in this browser.

const KEY = "aredun-theme";

function read() {
  // A browser may keep nothing: then every visit begins with the system's.
  try { return localStorage.getItem(KEY) ?? ""; } catch { return ""; }
}

function keep(theme) {
  try { localStorage.setItem(KEY, theme); } catch { /* The choice holds for this visit. */ }
}

function apply(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

export function setUpTheme() {
  const select = document.getElementById("theme");
  select.value = read();
  apply(select.value);
  select.addEventListener("change", () => {
    keep(select.value);
    apply(select.value);
  });
}
