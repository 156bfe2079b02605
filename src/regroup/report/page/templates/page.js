"use strict";
// Sorting: a heading's button cycles ascending, descending, the order in which the rows came.
document.querySelectorAll("table").forEach((table) => {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const headings = [...table.querySelectorAll("th[aria-sort]")];
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const next = { none: "ascending", ascending: "descending", descending: "none" };
      const order = next[heading.getAttribute("aria-sort")];
      headings.forEach((other) => other.setAttribute("aria-sort", "none"));
      heading.setAttribute("aria-sort", order);
      const key = (row) => row.cells[column].dataset.sort;
      const rows = [...original];
      if (order !== "none") {
        const sign = order === "ascending" ? 1 : -1;
        const numbers = rows.every((row) => key(row) === "" || !Number.isNaN(Number(key(row))));
        rows.sort((a, b) => {
          const [x, y] = [key(a), key(b)];
          if (x === "" || y === "") return (x === "") - (y === ""); // what is missing comes last, either way
          return sign * (numbers ? x - y : x.localeCompare(y, "en", { numeric: true }));
        });
      }
      body.append(...rows);
    });
  });
});

// The viewer: a dialog, so that Esc closes it and the focus goes back to where it was.
const viewer = document.getElementById("viewer");
const picture = viewer.querySelector("img");
const scale = document.getElementById("viewer-scale");
const setScale = (full) => {
  viewer.classList.toggle("full", full);
  scale.setAttribute("aria-pressed", String(full));
};
document.querySelectorAll("button.zoom").forEach((button) => {
  button.addEventListener("click", () => {
    const shown = button.querySelector("img");
    picture.src = shown.src;
    picture.alt = shown.alt;
    document.getElementById("viewer-title").textContent =
      button.closest("figure").querySelector("figcaption b").textContent;
    setScale(false);
    viewer.showModal();
  });
});
scale.addEventListener("click", () => setScale(!viewer.classList.contains("full")));
picture.addEventListener("click", () => setScale(!viewer.classList.contains("full")));
document.getElementById("viewer-close").addEventListener("click", () => viewer.close());
viewer.addEventListener("click", (event) => {
  if (event.target === viewer) viewer.close();
});

// Colours: as the system says, light, dark; remembered where the browser allows it.
const theme = document.getElementById("theme");
const themes = ["auto", "light", "dark"];
const setTheme = (name) => {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  theme.textContent = `Colours: ${name}`;
  theme.setAttribute("aria-label", `Colours: ${name === "auto" ? "as the system" : name}`);
};
let current = "auto";
try {
  current = themes.includes(localStorage.theme) ? localStorage.theme : "auto";
} catch {
  // a page opened from a file may have no storage
}
setTheme(current);
theme.addEventListener("click", () => {
  current = themes[(themes.indexOf(current) + 1) % themes.length];
  setTheme(current);
  try {
    localStorage.theme = current;
  } catch {
    // as above
  }
});

// On paper nothing is folded away.
let folded = [];
window.addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details.printed:not([open])")];
  folded.forEach((part) => (part.open = true));
});
window.addEventListener("afterprint", () => folded.forEach((part) => (part.open = false)));
