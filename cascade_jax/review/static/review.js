// The page's script. Places in a slice are those of the file: x to the right and y downwards, in voxels whose centres are
// whole numbers. The viewer has y upwards, and its drawing is laid out so: see `voxel` and `cascade_jax/review/display.py`.
"use strict";

const COLOURS = [null, [86, 180, 233], [47, 211, 155], [255, 157, 46], [243, 224, 74]]; // by label, as the report's
// What is outlined, from the outside in, and the label whose colour it has.
const OUTLINES = [[[1, 2, 3, 4], 2], [[1], 1], [[3, 4], 3], [[4], 4]];
const IN_MUSCLE = [2, 3, 4], INFARCT = [3, 4];
const WIDTHS = [1, 3, 5, 7, 9]; // of the pen, voxels
const TURN = 2, FAST = 5; // degrees of a key's turn of an insertion; how many times more with Shift
const MARGIN_MM = 20; // around the heart
const MEASURE_AFTER_MS = 250;
const LETTERS = { anterior: "A", inferior: "I" };
const HEAT = ["#ffffcc", "#ffeda0", "#fed976", "#feb24c", "#fd8d3c", "#fc4e2a", "#e31a1c", "#bd0026", "#800026"];

const $ = (id) => document.getElementById(id);
const svg = (name, attributes, text) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
};
const cell = (text, kind = "") => {
  const element = document.createElement("td");
  element.textContent = text;
  element.className = kind;
  return element;
};
const figure = (value) => (value === null || value === undefined ? "–" : value >= 10 ? value.toFixed(1) : value.toFixed(2));
const rgb = (label) => `rgb(${COLOURS[label].join(" ")})`;

let viewer = null, cases = [];
let open = null; // the case: what the server says of it, and `index`, `prediction`, `insertions`
let before = null; // the drawing as it was at the last change, to tell what a stroke has changed
let undone = [], done = []; // changes: { at, from, to } of voxels, or { insertions: [from, to] }
let saved = 0; // how many changes of `done` are saved; -1 if that state cannot be come back to
let slice = 0, tool = "pen", label = 3, width = 1;
let zoom = { x: 0, y: 0, factor: 1 };
let pointer = { x: 0, y: 0 }, penDown = null, measuring = 0, asked = 0, quiet = 0;
let limits = [0, 1];

// ---- Talking with the server

async function ask(path, body) {
  const response = await fetch(path, body === undefined ? {} : { method: "POST", body }).catch(() => null);
  if (response === null) throw new Error("The command that serves this page has ended; start it again.");
  if (!response.ok) throw new Error((await response.json().catch(() => ({}))).error || `failed (${response.status})`);
  return response;
}

const json = async (path, body) => (await ask(path, body)).json();
const bytes = async (path) => new Uint8Array(await (await ask(path)).arrayBuffer());

function say(text) {
  clearTimeout(quiet);
  $("message").textContent = text;
  $("message").hidden = !text;
  if (text) quiet = setTimeout(() => say(""), 12000);
}

const attempt = (action) => (...values) => Promise.resolve(action(...values)).catch((error) => say(error.message));

// ---- The list of cases

async function showList() {
  const answer = await json("cases");
  cases = answer.cases;
  document.querySelectorAll(".reader").forEach((element) => (element.textContent = answer.reader));
  $("rows").replaceChildren(...cases.map((row, index) => {
    const line = document.createElement("tr"), name = cell("", "text"), link = document.createElement("a");
    link.href = `#${index}`;
    link.textContent = row.name;
    name.append(link);
    if (row.doubtful) {
      const mark = document.createElement("span");
      mark.className = "mark";
      mark.textContent = "doubtful";
      mark.title = row.doubtful;
      name.append(mark);
    }
    const least = Math.min(...row.expected_dice.filter((value) => value !== null));
    line.append(name, ...row.expected_dice.map((value) => cell(figure(value), row.doubtful && value === least ? "doubtful" : "")));
    if (row.fault) {
      const fault = cell(row.fault, "fault");
      fault.colSpan = 6;
      line.append(fault);
    } else {
      const names = ["infarct_g", "infarct_percent", "no_reflow_g", "no_reflow_percent", "myocardium_g"];
      line.append(...names.map((key) => cell(figure(row[key]))), cell(row.corrected || "", "text quiet"));
    }
    return line;
  }));
  $("case").hidden = true;
  $("list").hidden = false;
  document.title = "Review of outlines";
  open = null;
}

// ---- A case

async function startViewer() {
  if (viewer) return;
  viewer = new niivue.Niivue({
    backColor: [0, 0, 0, 1], crosshairWidth: 0, isOrientationTextVisible: false, isColorbar: false, logLevel: "warn",
    sliceType: niivue.SLICE_TYPE.AXIAL, isRadiologicalConvention: false, dragAndDropEnabled: false, loadingText: "",
    dragModePrimary: niivue.DRAG_MODE.crosshair, dragMode: niivue.DRAG_MODE.none, maxDrawUndoBitmaps: 2,
  });
  try {
    await viewer.attachToCanvas($("canvas"), true);
  } catch {
    viewer = null;
    throw new Error("This page needs WebGL 2, which this browser or its graphics driver does not give.");
  }
  new ResizeObserver(() => requestAnimationFrame(() => open && look())).observe($("stage"));
}

async function showCase(index) {
  if (!cases.length) cases = (await json("cases")).cases;
  const [told, drawing, prediction] = await Promise.all([
    json(`cases/${index}/case`), bytes(`cases/${index}/labels`), bytes(`cases/${index}/prediction`),
  ]);
  $("list").hidden = true;
  $("case").hidden = false;
  await startViewer();
  await viewer.loadVolumes([{ url: `cases/${index}/image.nii`, name: "image.nii" }]);
  open = { ...told, index, prediction, depth: told.shape[0], height: told.shape[1], width: told.shape[2] };
  [, open.sizeY, open.sizeX] = told.spacing;
  limits = [viewer.volumes[0].cal_min, viewer.volumes[0].cal_max];
  $("window").value = 100;
  $("level").value = 0;
  viewer.createEmptyDrawing();
  viewer.setDrawColormap({
    R: COLOURS.map((c) => (c ? c[0] : 0)), G: COLOURS.map((c) => (c ? c[1] : 0)), B: COLOURS.map((c) => (c ? c[2] : 0)),
    A: COLOURS.map((c) => (c ? 255 : 0)), labels: open.labels,
  });
  viewer.drawBitmap.set(drawing);
  before = drawing.slice();
  [undone, done, saved, penDown] = [[], [], 0, null];
  $("name").textContent = told.name;
  const { doubtful, warnings, expected_dice: [dice] } = cases[index];
  const said = [...warnings, ...(dice === null ? [] : [`expected Dice of the myocardium ${figure(dice)}`])];
  $("doubt").textContent = said.join("; ");
  $("doubt").className = doubtful ? "doubtful" : "quiet";
  document.title = told.name;
  $("previous").disabled = index === 0;
  $("next").disabled = index === cases.length - 1;
  $("slice").max = open.depth - 1;
  slice = fullestSlice();
  measured(told);
  state();
  fit();
  viewer.refreshDrawing(true);
  choose();
  look();
}

const voxel = (x, y, z) => x + open.width * (open.height - 1 - y + open.height * z);

function fullestSlice() {
  const size = open.width * open.height;
  let best = 0, most = -1;
  for (let z = 0; z < open.depth; z++) {
    let count = 0;
    for (let i = z * size; i < (z + 1) * size; i++) count += INFARCT.includes(before[i]) ? 100 : before[i] > 0;
    if (count > most) [best, most] = [z, count];
  }
  return best;
}

// ---- What is seen

function fit() {
  let [left, right, top, bottom] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let z = 0; z < open.depth; z++)
    for (let y = 0; y < open.height; y++)
      for (let x = 0; x < open.width; x++)
        if (viewer.drawBitmap[voxel(x, y, z)]) {
          [left, right, top, bottom] = [Math.min(left, x), Math.max(right, x), Math.min(top, y), Math.max(bottom, y)];
        }
  const whole = [open.width * open.sizeX, open.height * open.sizeY];
  if (left > right) [left, right, top, bottom] = [0, open.width - 1, 0, open.height - 1];
  const shown = [(right - left) * open.sizeX + 2 * MARGIN_MM, (bottom - top) * open.sizeY + 2 * MARGIN_MM];
  // The viewer fits the whole slice into the canvas at a factor of 1.
  const [across, down] = [$("stage").clientWidth, $("stage").clientHeight];
  const scale = Math.min(across / whole[0], down / whole[1]);
  zoom.factor = Math.max(1, Math.min(across / shown[0], down / shown[1]) / scale);
  [zoom.x, zoom.y] =
    zoom.factor === 1 ? [(open.width - 1) / 2, (open.height - 1) / 2] : [(left + right) / 2, (top + bottom) / 2];
  [pointer.x, pointer.y] = [Math.round(zoom.x), Math.round(zoom.y)];
}

/** Shows the slice, at the zoom, and lays the overlay on it. */
function look() {
  const middle = (length, size) => ((length - 1) / 2) * size;
  const pan = (length, size, place) => middle(length, size) - zoom.factor * place * size;
  viewer.setPan2Dxyzmm([
    pan(open.width, open.sizeX, zoom.x), pan(open.height, open.sizeY, open.height - 1 - zoom.y), 0, zoom.factor,
  ]);
  viewer.scene.crosshairPos = [0.5, 0.5, (slice + 0.5) / open.depth];
  viewer.drawScene();
  $("slice").value = slice;
  $("slice-number").textContent = `${slice + 1} of ${open.depth}`;
  overlay();
}

/** From places in the slice to the stage's pixels: x * a + b and y * c + d. */
function placement() {
  const shown = viewer.screenSlices[0], ratio = viewer.uiData.dpr;
  const [left, top, across, down] = shown.leftTopWidthHeight.map((value) => value / ratio);
  const a = (across / shown.fovMM[0]) * open.sizeX, c = (down / shown.fovMM[1]) * open.sizeY;
  const b = left - (across * shown.leftTopMM[0]) / shown.fovMM[0];
  const up = (open.height - 1) * open.sizeY - shown.leftTopMM[1];
  return { a, b, c, d: top + down - (down * up) / shown.fovMM[1] };
}

function outline(drawing, inside) {
  const is = (x, y) => x >= 0 && y >= 0 && x < open.width && y < open.height && inside[drawing[voxel(x, y, slice)]];
  const parts = [];
  for (let y = 0; y <= open.height; y++)
    for (let x = 0; x <= open.width; x++) {
      const here = is(x, y);
      if (here !== is(x - 1, y)) parts.push(`M${x - 0.5} ${y - 0.5}v1`);
      if (here !== is(x, y - 1)) parts.push(`M${x - 0.5} ${y - 0.5}h1`);
    }
  return parts.join("");
}

function overlay() {
  const at = placement(), lines = svg("g", { transform: `matrix(${at.a} 0 0 ${at.c} ${at.b} ${at.d})` });
  const drawn = (labels, drawing) => outline(drawing, [0, 1, 2, 3, 4].map((value) => labels.includes(value)));
  if ($("show-outlines").checked)
    for (const [labels, colour] of OUTLINES) {
      const d = drawn(labels, viewer.drawBitmap);
      if (d) lines.append(svg("path", { d, class: "under" }), svg("path", { d, stroke: rgb(colour), "data-label": colour }));
    }
  if ($("show-prediction").checked)
    for (const [labels] of OUTLINES) lines.append(svg("path", { d: drawn(labels, open.prediction), class: "predicted" }));
  const held = document.activeElement?.dataset?.insertion;
  const handles = $("show-insertions").checked ? Object.keys(LETTERS).map((which) => handle(which, at)) : [];
  const cursor = svg("g", { id: "cursor", transform: `matrix(${at.a} 0 0 ${at.c} ${at.b} ${at.d})` });
  $("overlay").replaceChildren(lines, cursor, ...handles.filter(Boolean));
  if (held) $("overlay").querySelector(`[data-insertion="${held}"]`)?.focus();
  showCursor();
}

function showCursor() {
  if (tool === "hand") return $("cursor").replaceChildren();
  const size = tool === "fill" ? 1 : width, [x, y] = [pointer.x - size / 2, pointer.y - size / 2];
  const kind = penDown ? "down" : "";
  $("cursor").replaceChildren(svg("rect", { x, y, width: size, height: size, class: kind }));
}

// ---- The insertions of the right ventricle

/** The handle of an insertion; dashed where nobody knows it. */
function handle(which, at) {
  const centre = open.centres[slice];
  if (!centre) return null;
  const known = open.insertions[which], angle = known ?? (which === "anterior" ? 120 : 240);
  const radii = open.radii[slice], present = radii.filter((radius) => radius !== null);
  const fallback = present.length ? present.reduce((sum, radius) => sum + radius, 0) / present.length : 20;
  const from = radii[Math.floor(angle / 2) % 180] ?? fallback;
  const place = (radius) => {
    const turn = (angle * Math.PI) / 180;
    const x = centre[0] + (Math.cos(turn) * radius) / open.sizeX, y = centre[1] - (Math.sin(turn) * radius) / open.sizeY;
    return [at.a * x + at.b, at.c * y + at.d];
  };
  const [[x1, y1], [x2, y2], [cx, cy]] = [from + 1, from + 7, from + 7].map(place);
  const group = svg("g", {
    class: known === null ? "handle unknown" : "handle", tabindex: 0, role: "slider", "data-insertion": which,
    "aria-label": `${which} insertion of the right ventricle, degrees`, "aria-valuemin": 0, "aria-valuemax": 360,
    "aria-valuenow": Math.round(angle),
  });
  group.append(svg("line", { x1, y1, x2, y2 }), svg("circle", { cx, cy, r: 10 }), svg("text", { x: cx, y: cy }, LETTERS[which]));
  group.addEventListener("pointerdown", (event) => drag(event, which, group));
  return group;
}

function drag(event, which, group) {
  event.preventDefault();
  const from = { ...open.insertions }, centre = open.centres[slice], at = placement(), box = $("stage").getBoundingClientRect();
  const move = (moved) => {
    const across = ((moved.clientX - box.left - at.b) / at.a - centre[0]) * open.sizeX;
    const down = ((moved.clientY - box.top - at.d) / at.c - centre[1]) * open.sizeY;
    open.insertions = { ...open.insertions, [which]: ((Math.atan2(-down, across) * 180) / Math.PI + 360) % 360, dragged: true };
    overlay();
  };
  const stop = () => {
    removeEventListener("pointermove", move);
    removeEventListener("pointerup", stop);
    $("overlay").querySelector(`[data-insertion="${which}"]`)?.focus();
    if (open.insertions[which] !== from[which]) change({ insertions: [from, { ...open.insertions }] });
  };
  addEventListener("pointermove", move);
  addEventListener("pointerup", stop);
  group.focus();
}

function turn(which, degrees) {
  const from = { ...open.insertions }, now = from[which] ?? (which === "anterior" ? 120 : 240);
  open.insertions = { ...from, [which]: (now + degrees + 360) % 360, dragged: true };
  change({ insertions: [from, { ...open.insertions }] });
  overlay();
}

// ---- Drawing

function choose() {
  const value = tool === "eraser" ? 0 : label;
  viewer.setDrawingEnabled(tool !== "hand");
  viewer.setPenValue(value, tool === "fill");
  viewer.opts.penSize = tool === "fill" ? 1 : width;
  viewer.setDrawOpacity($("show-colours").checked ? 0.2 : 0);
  $("stage").classList.toggle("hand", tool === "hand");
  for (const button of document.querySelectorAll("[data-tool]")) button.setAttribute("aria-checked", button.dataset.tool === tool);
  for (const button of document.querySelectorAll("[data-label]")) button.setAttribute?.("aria-checked", Number(button.dataset.label) === value);
  $("width").textContent = width === 1 ? "1 voxel" : `${width} voxels`;
  if (open) overlay();
}

/** Takes what a stroke has changed as one step that can be undone. */
function commit() {
  if (!open) return;
  const now = viewer.drawBitmap, at = [], from = [], to = [];
  const kept = INFARCT.includes(label) && tool !== "eraser" && $("keep").checked;
  for (let i = 0; i < now.length; i++)
    if (now[i] !== before[i]) {
      if (kept && !IN_MUSCLE.includes(before[i])) {
        now[i] = before[i];
        continue;
      }
      at.push(i);
      from.push(before[i]);
      to.push(now[i]);
      before[i] = now[i];
    }
  viewer.refreshDrawing(true);
  if (at.length) change({ at, from, to });
  overlay();
}

/** Remembers a change that has been made, and measures again. */
function change(step) {
  if (saved > done.length) saved = -1;
  done.push(step);
  undone = [];
  state();
  measureSoon();
}

function put(step, back) {
  if (step.insertions) open.insertions = { ...step.insertions[back ? 0 : 1] };
  else {
    const values = back ? step.from : step.to;
    step.at.forEach((index, i) => (viewer.drawBitmap[index] = before[index] = values[i]));
    slice = Math.floor(step.at[0] / (open.width * open.height));
    viewer.refreshDrawing(true);
  }
  state();
  look();
  measureSoon();
}

function undo() {
  const step = done.pop();
  if (!step) return;
  undone.push(step);
  put(step, true);
}

function redo() {
  const step = undone.pop();
  if (!step) return;
  done.push(step);
  put(step, false);
}

function restart() {
  viewer.drawBitmap.set(open.prediction);
  const held = $("keep").checked;
  $("keep").checked = false;
  commit();
  $("keep").checked = held;
}

const unsaved = () => Boolean(open) && done.length !== saved;

function state() {
  $("undo").disabled = !done.length;
  $("redo").disabled = !undone.length;
  $("save").disabled = !unsaved();
  $("state").textContent = unsaved() ? "not saved" : open.corrected ? "saved" : "";
  $("who").textContent = open.corrected ? `corrected by ${open.corrected}` : "as predicted";
}

/** Draws a voxel at the pen's place, or a line from where it was; for the keyboard. */
function drawHere() {
  const value = tool === "eraser" ? 0 : label, place = [pointer.x, open.height - 1 - pointer.y, slice];
  viewer.drawPenAxCorSag = 0;
  if (penDown.length) viewer.drawPenLine(place, penDown[penDown.length - 1], value);
  viewer.drawPt(...place, value);
  penDown.push(place);
  viewer.refreshDrawing(true);
}

function togglePen() {
  if (tool === "hand") return;
  if (!penDown) {
    penDown = [];
    drawHere();
    return showCursor();
  }
  if (tool === "fill") {
    viewer.drawPenFillPts = penDown;
    viewer.drawPenFilled();
  }
  viewer.drawPenAxCorSag = -1;
  penDown = null;
  commit();
}

function movePen(x, y) {
  pointer.x = Math.max(0, Math.min(open.width - 1, pointer.x + x));
  pointer.y = Math.max(0, Math.min(open.height - 1, pointer.y + y));
  if (penDown) drawHere();
  showCursor();
}

// ---- Numbers

const where = () => {
  const values = { dragged: open.insertions.dragged ? "yes" : "no" };
  for (const which of Object.keys(LETTERS)) if (open.insertions[which] !== null) values[which] = open.insertions[which];
  return new URLSearchParams(values);
};

function measureSoon() {
  clearTimeout(measuring);
  $("numbers").classList.add("stale");
  measuring = setTimeout(attempt(async () => {
    const number = ++asked, of = open;
    const told = await json(`cases/${open.index}/measure?${where()}`, viewer.drawBitmap.slice());
    if (number === asked && of === open) measured(told);
  }), MEASURE_AFTER_MS);
}

function measured(told) {
  Object.assign(open, { centres: told.centres, radii: told.radii });
  $("quantities").replaceChildren(...told.rows.map(([title, unit, predicted, now]) => {
    const line = document.createElement("tr"), head = document.createElement("th");
    head.textContent = title;
    line.append(head, cell(predicted), cell(now, predicted === now ? "" : "changed"), cell(unit, "unit"));
    return line;
  }));
  bullseye(told.segments);
  $("numbers").classList.remove("stale");
  if (viewer?.screenSlices.length) overlay();
}

function bullseye(segments) {
  const known = new Map(segments.map((segment) => [segment.number, segment]));
  const point = (radius, degrees) => {
    const angle = (degrees * Math.PI) / 180;
    return [radius * Math.cos(angle), -radius * Math.sin(angle)].map((value) => value.toFixed(3)).join(" ");
  };
  const parts = [];
  for (let number = 1; number <= 17; number++) {
    const segment = known.get(number), percent = segment?.transmurality ?? null;
    const fill = percent === null ? "#2a3139" : HEAT[Math.min(8, Math.floor((percent / 100) * 9))];
    const [outer, inner, start, span] =
      number === 17 ? [1, 0, 0, 360]
      : number > 12 ? [2, 1, 45 + 90 * (number - 13), 90]
      : [number < 7 ? 4 : 3, number < 7 ? 3 : 2, 60 + 60 * ((number - 1) % 6), 60];
    const end = start + span, middle = start + span / 2;
    const shape = number === 17 ? svg("circle", { r: 1, fill }) : svg("path", {
      fill, d: `M${point(outer, start)}A${outer} ${outer} 0 0 0 ${point(outer, end)}L${point(inner, end)}` +
        `A${inner} ${inner} 0 0 1 ${point(inner, start)}Z`,
    });
    const said = `${number}${segment ? ` ${segment.name}` : ""}: ${percent === null ? "not reached" : `${percent.toFixed(0)} %`}`;
    shape.append(svg("title", {}, said));
    const [x, y] = number === 17 ? [0, 0] : point((outer + inner) / 2, middle).split(" ");
    const ink = percent === null ? "#9aa5b1" : percent > 60 ? "#fff" : "#14171b";
    parts.push(shape, svg("text", { x, y, fill: ink, "pointer-events": "none" }, percent === null ? "–" : percent.toFixed(0)));
  }
  const { anterior, inferior, dragged } = open.insertions, marks = anterior === null ? {} : { A: 120 };
  if (anterior !== null && inferior !== null) {
    const between = open.mirrored ? anterior - inferior : inferior - anterior;
    marks.I = 120 + ((between + 360) % 360);
  }
  for (const [letter, degrees] of Object.entries(marks)) {
    const [[x1, y1], [x2, y2], [x, y]] = [4, 4.3, 4.65].map((radius) => point(radius, degrees).split(" "));
    parts.push(svg("line", { x1, y1, x2, y2 }), svg("text", { x, y, class: "letter" }, letter));
  }
  $("bullseye").replaceChildren(...parts);
  $("counted").textContent = !segments.length
    ? "Fewer than three slices have a cavity: there are no segments."
    : anterior === null
      ? "No right ventricle was found: segments are counted from the x axis and do not lie where their names say. Drag A to its anterior insertion."
      : `Counted from the right ventricle’s anterior insertion (A), ${dragged ? "as you put it" : "found in the image"}.`;
}

async function save() {
  if (!unsaved()) return;
  if (penDown) togglePen();
  const count = done.length, of = open;
  clearTimeout(measuring);
  $("state").textContent = "saving …";
  try {
    const query = where();
    query.set("version", open.version);
    const told = await json(`cases/${open.index}/save?${query}`, viewer.drawBitmap.slice());
    if (of !== open) return;
    asked++;
    saved = count;
    Object.assign(open, { version: told.version, corrected: told.corrected });
    measured(told);
    if (unsaved()) measureSoon();
    say("");
  } finally {
    if (of === open) state();
  }
}

// ---- Hands on it

const leave = () => !unsaved() || confirm("What you have drawn is not saved. Leave it?");
const go = (hash) => (location.hash = hash);

function setSlice(value) {
  if (penDown) togglePen();
  slice = Math.max(0, Math.min(open.depth - 1, value));
  look();
}

function zoomBy(ratio, x = zoom.x, y = zoom.y) {
  const factor = Math.max(0.5, Math.min(20, zoom.factor * ratio)), part = zoom.factor / factor;
  zoom = { factor, x: x + (zoom.x - x) * part, y: y + (zoom.y - y) * part };
  look();
}

function pick(next) {
  if (penDown) togglePen();
  tool = next;
  choose();
}

function pickLabel(value) {
  if (penDown) togglePen();
  if (!value) return pick("eraser");
  label = value;
  if (tool === "eraser" || tool === "hand") tool = "pen";
  choose();
}

function widen(step) {
  width = WIDTHS[Math.max(0, Math.min(WIDTHS.length - 1, WIDTHS.indexOf(width) + step))];
  choose();
}

function contrast() {
  const span = ((limits[1] - limits[0]) * $("window").value) / 100;
  const middle = (limits[0] + limits[1]) / 2 + ((limits[1] - limits[0]) * $("level").value) / 100;
  [viewer.volumes[0].cal_min, viewer.volumes[0].cal_max] = [middle - span / 2, middle + span / 2];
  viewer.updateGLVolume();
  look();
}

const toggle = (id) => ($(id).checked = !$(id).checked, choose());
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const KEYS = {
  p: () => pick("pen"), f: () => pick("fill"), e: () => pick("eraser"), h: () => pick("hand"),
  0: () => pickLabel(0), 1: () => pickLabel(1), 2: () => pickLabel(2), 3: () => pickLabel(3), 4: () => pickLabel(4),
  "[": () => widen(-1), "]": () => widen(1), pageup: () => setSlice(slice - 1), pagedown: () => setSlice(slice + 1),
  "+": () => zoomBy(1.25), "=": () => zoomBy(1.25), "-": () => zoomBy(0.8), home: () => (fit(), look()),
  " ": togglePen, z: undo, y: redo, s: attempt(save), m: () => toggle("keep"),
  o: () => toggle("show-outlines"), c: () => toggle("show-colours"), k: () => toggle("show-prediction"),
  t: () => toggle("show-insertions"), a: () => hold("anterior"), i: () => hold("inferior"),
  b: () => open.index > 0 && go(open.index - 1), n: () => open.index < cases.length - 1 && go(open.index + 1),
  l: () => go(""), escape: () => document.activeElement?.blur(), "?": () => $("keys").showModal(),
};

function hold(which) {
  $("show-insertions").checked = true;
  overlay();
  $("overlay").querySelector(`[data-insertion="${which}"]`)?.focus();
}

// Before the viewer, which has keys of its own.
addEventListener("keydown", (event) => {
  if (!open || $("keys").open || event.altKey) return;
  event.stopPropagation();
  const inControl = event.target.closest?.("input, button, a"), key = event.key.toLowerCase(), arrow = ARROWS[event.key];
  const which = document.activeElement?.dataset?.insertion;
  if (event.ctrlKey || event.metaKey) {
    if (!"zys".includes(key)) return;
    event.preventDefault();
    return key === "z" && event.shiftKey ? redo() : KEYS[key]();
  }
  if (inControl && (arrow || [" ", "enter", "home", "pageup", "pagedown"].includes(key))) return;
  const many = event.shiftKey ? FAST : 1;
  if (arrow && which) turn(which, (arrow[0] < 0 || arrow[1] < 0 ? 1 : -1) * TURN * many);
  else if (arrow) movePen(arrow[0] * many, arrow[1] * many);
  else if (KEYS[key]) KEYS[key]();
  else return;
  event.preventDefault();
}, true);
addEventListener("keyup", (event) => open && event.stopPropagation(), true);

const stage = $("stage");
const under = (event) => {
  const at = placement(), box = stage.getBoundingClientRect();
  return [(event.clientX - box.left - at.b) / at.a, (event.clientY - box.top - at.d) / at.c];
};
// The viewer is left the strokes of the left button; the rest is done here.
stage.addEventListener("mousedown", (event) => {
  if (event.target.closest(".handle")) return;
  if (penDown) togglePen();
  document.activeElement?.blur();
  if (event.button === 0 && tool !== "hand" && !event.shiftKey && !event.ctrlKey) return;
  event.stopPropagation();
  event.preventDefault();
  let last = under(event);
  const move = (moved) => {
    const now = under(moved);
    [zoom.x, zoom.y] = [zoom.x + last[0] - now[0], zoom.y + last[1] - now[1]];
    look();
    last = under(moved);
  };
  const stop = () => (removeEventListener("mousemove", move), removeEventListener("mouseup", stop));
  addEventListener("mousemove", move);
  addEventListener("mouseup", stop);
}, true);
stage.addEventListener("mousemove", (event) => {
  if (!open) return;
  [pointer.x, pointer.y] = under(event).map(Math.round);
  showCursor();
}, true);
stage.addEventListener("wheel", (event) => {
  if (!open) return;
  event.stopPropagation();
  event.preventDefault();
  if (event.ctrlKey || event.metaKey) zoomBy(event.deltaY < 0 ? 1.15 : 1 / 1.15, ...under(event));
  else if (event.deltaY) setSlice(slice + Math.sign(event.deltaY));
}, { capture: true, passive: false });
for (const kind of ["dblclick", "contextmenu"])
  stage.addEventListener(kind, (event) => (event.stopPropagation(), event.preventDefault()), true);
// The viewer draws a stroke up to, but not including, its last voxel.
for (const kind of ["mouseup", "touchend"])
  stage.addEventListener(kind, () => {
    const [x, y, z] = viewer?.drawPenLocation ?? [NaN];
    if (!Number.isNaN(x)) viewer.drawPt(x, y, z, viewer.opts.penValue);
  }, true);
// After the viewer, which ends its stroke first.
for (const kind of ["mouseup", "touchend"]) addEventListener(kind, () => open && !penDown && viewer?.drawBitmap && commit());

document.querySelectorAll("[data-tool]").forEach((button) => {
  button.setAttribute("role", "radio");
  button.addEventListener("click", () => pick(button.dataset.tool));
});
["cavity", "myocardium", "infarction", "no-reflow"].forEach((name, index) => {
  const button = document.createElement("button"), swatch = document.createElement("span"), key = document.createElement("kbd");
  swatch.className = "swatch";
  swatch.style.background = rgb(index + 1);
  key.textContent = index + 1;
  button.dataset.label = index + 1;
  button.setAttribute("role", "radio");
  button.append(swatch, name, key);
  button.addEventListener("click", () => pickLabel(index + 1));
  $("labels").append(button);
});
for (const id of ["show-outlines", "show-colours", "show-prediction", "show-insertions"]) $(id).addEventListener("change", choose);
$("slice").addEventListener("input", () => setSlice(Number($("slice").value)));
for (const id of ["window", "level"]) $(id).addEventListener("input", contrast);
for (const [id, action] of Object.entries({
  back: KEYS.l, previous: KEYS.b, next: KEYS.n, save: KEYS.s, undo, redo, restart, thinner: KEYS["["], thicker: KEYS["]"],
  fit: KEYS.home, "keys-open": KEYS["?"],
})) $(id).addEventListener("click", action);
addEventListener("beforeunload", (event) => unsaved() && event.preventDefault());

const route = attempt(async () => {
  const index = location.hash.slice(1);
  if (open && index === String(open.index)) return;
  if (!leave()) return history.replaceState(null, "", `#${open.index}`);
  if (/^\d+$/.test(index)) await showCase(Number(index));
  else await showList();
});
addEventListener("hashchange", route);
route();
