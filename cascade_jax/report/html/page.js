// The page as a whole: which case is open, tables that sort, and tables as CSV.

const viewers = new Map();  // a case's pictures are made when it is first looked at

function current() {
  const match = location.hash.match(/^#case-(\d+)$/);
  return match ? Number(match[1]) : null;
}

function open(index) {
  const page = document.getElementById("page-" + index);
  if (!page || viewers.has(index)) return;
  const data = JSON.parse(document.getElementById("data-" + index).textContent);
  viewers.set(index, makeViewer(page, data, index));
  addCsvButtons(page, page.dataset.name);
}

function show() {
  const index = current();
  document.getElementById("cohort").hidden = index !== null;
  document.querySelectorAll(".case").forEach((page) => { page.hidden = page.id !== "page-" + index; });
  if (index !== null) open(index);
  scrollTo(0, 0);
}

function sortBy(header) {
  const table = header.closest("table"), column = header.cellIndex, body = table.tBodies[0];
  const wasSorted = header.getAttribute("aria-sort");
  const opposite = {ascending: "descending", descending: "ascending"};
  const order = wasSorted ? opposite[wasSorted] : header.dataset.first;
  table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
  header.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const key = (row) => {
    const cell = row.cells[column], value = cell.dataset.value;
    return column === 0 ? cell.textContent.trim() : value === undefined ? null : Number(value);
  };
  const rows = [...body.rows].map((row) => [key(row), row]);
  rows.sort(([one], [other]) => {
    if (one === null || other === null) return (one === null) - (other === null);  // what is not known comes last
    return sign * (column === 0 ? one.localeCompare(other, undefined, {numeric: true}) : one - other);
  });
  body.append(...rows.map(([, row]) => row));
}

// A field of a CSV file. A spreadsheet takes what begins like this for a formula, and would run it: it is made a text.
function csvField(text) {
  let field = text.replace(/\u00ad/g, "").replace(/\s+/g, " ").trim();
  if (field === "-") field = "";
  if (/^[=+\-@\t\r]/.test(field) && Number.isNaN(Number(field))) field = "'" + field;
  return /[",;\n]/.test(field) ? `"${field.replace(/"/g, '""')}"` : field;
}

function cellsOf(row) {
  return [...row.cells].flatMap((cell) => Array(cell.colSpan).fill(cell.textContent.trim()));
}

function csvOf(table) {
  const heads = [...table.tHead.rows].map(cellsOf);
  const titles = heads[0].map((_, column) => heads.map((row) => row[column]).filter(Boolean).join(": "));
  const rows = [titles, ...[...table.tBodies[0].rows].map(cellsOf)];
  return rows.map((row) => row.map(csvField).join(",")).join("\r\n") + "\r\n";
}

function addCsvButtons(part, name) {
  part.querySelectorAll("table:not(.legend)").forEach((table) => {
    const title = table.caption.textContent, button = document.createElement("button");
    Object.assign(button, {type: "button", className: "csv", textContent: "CSV", title: "save this table as a CSV file"});
    button.addEventListener("click", () => {
      const link = document.createElement("a");
      // With a byte order mark, by which spreadsheets know that it is UTF-8.
      link.href = URL.createObjectURL(new Blob(["\ufeff" + csvOf(table)], {type: "text/csv"}));
      link.download = `${name} ${title}`.replace(/[^\p{L}\p{N}]+/gu, "_") + ".csv";
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    });
    table.caption.append(button);
  });
}

addEventListener("hashchange", show);
addEventListener("keydown", (event) => {
  const viewer = viewers.get(current());
  if (!viewer || event.ctrlKey || event.metaKey || event.altKey) return;
  // Up and down scroll the page; left and right belong to another slider and to a wide table while they have the focus.
  const step = {ArrowRight: 1, "]": 1, ArrowLeft: -1, "[": -1}[event.key];
  const other = event.target.closest("input[type=range]:not(.slice), .scroll");
  if (step && !(other && event.key.startsWith("Arrow"))) viewer.step(step);
  else if (!viewer.key(event.key)) return;
  event.preventDefault();
});
// What is folded away on the screen is read on paper.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
document.querySelectorAll(".cases th").forEach((header) => header.addEventListener("click", () => sortBy(header)));
document.querySelectorAll(".cases tbody tr").forEach((row) => row.addEventListener("click", (event) => {
  if (!event.target.closest("a")) location.hash = "case-" + row.dataset.case;
}));
addCsvButtons(document.getElementById("cohort"), document.title);
show();
