"use strict";
// Tables sort by any column: figures by their size, largest first, words by the alphabet. A gap comes last.
const value = (row, column) => {
  const text = row.cells[column].textContent.trim();
  const number = parseFloat(text.replace("−", "-"));
  return { text, number: ["-", "", "none", "not trained"].includes(text) ? null : number };
};
for (const table of document.querySelectorAll("table")) {
  const [head, body] = [table.tHead.rows[0], table.tBodies[0]];
  [...head.cells].forEach((cell, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...cell.childNodes);
    cell.append(button);
    button.addEventListener("click", () => {
      const figures = [...body.rows].every((row) => !Number.isNaN(value(row, column).number));
      const first = figures ? "descending" : "ascending";
      const order = cell.ariaSort === first ? (figures ? "ascending" : "descending") : first;
      for (const other of head.cells) other.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const rows = [...body.rows].sort((one, other) => {
        const [a, b] = [value(one, column), value(other, column)];
        if (!figures) return sign * a.text.localeCompare(b.text, undefined, { numeric: true });
        if (a.number === null || b.number === null) return (a.number === null) - (b.number === null);
        return sign * (a.number - b.number);
      });
      body.append(...rows);
    });
  });
}
// What is folded is printed too, and folded again after that.
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  folded.forEach((part) => { part.open = true; });
});
addEventListener("afterprint", () => folded.forEach((part) => { part.open = false; }));
