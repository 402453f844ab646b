// The pictures of one case: all slices small, the chosen one large.

function element(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function add(parent, tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  parent.append(made);
  return made;
}

function picture(parent) {
  const image = new Image();
  image.alt = "";
  image.decoding = "async";
  image.draggable = false;
  parent.append(image);
  return image;
}

function paths(layer, outlines, filled) {
  const group = element("g", {class: layer.replace(" ", "-") + (filled ? " filled" : "")});
  for (const stroke of ["edge", "core"]) {
    outlines.forEach((d, index) => {
      if (d) group.append(element("path", {class: `${stroke} outline-${index}`, d, "fill-rule": "evenodd"}));
    });
  }
  return group;
}

function insertions(marks) {
  const group = element("g", {class: "insertion"});
  for (const [letter, x, y, endX, endY] of marks) {
    for (const stroke of ["edge", "core"]) group.append(element("path", {class: stroke, d: `M${x} ${y}L${endX} ${endY}`}));
    const text = element("text", {x: endX + (endX - x) / 2, y: endY + (endY - y) / 2});
    text.textContent = letter;
    group.append(text);
  }
  return group;
}

// Maps intensities from level - window / 2 (black) to level + window / 2 (white), as shares of what a picture holds.
function greyFilter(id) {
  const filter = element("filter", {id, "color-interpolation-filters": "sRGB", x: 0, y: 0, width: 1, height: 1});
  const transfer = element("feComponentTransfer", {});
  const channels = ["R", "G", "B"].map((channel) => element("feFunc" + channel, {type: "linear"}));
  transfer.append(...channels);
  filter.append(transfer);
  const set = (window, level) => channels.forEach((channel) => {
    channel.setAttribute("slope", 1 / window);
    channel.setAttribute("intercept", 0.5 - level / window);
  });
  return [filter, set];
}

function outlinesIn(data) {
  return element("svg", {viewBox: `0 0 ${data.width} ${data.height}`, preserveAspectRatio: "none"});
}

const within = (value, low, high) => Math.min(high, Math.max(low, value));

function makeViewer(page, data, index) {
  const box = (kind) => page.querySelector(kind);
  const stage = box(".stage"), slider = box(".slice"), windowed = box(".window"), level = box(".level");
  const count = data.images.length, lowest = data.held[0], range = data.held[1] - lowest;
  const [filter, setGrey] = greyFilter("grey-" + index), grey = `url(#grey-${index})`;
  const scene = add(stage, "div", "scene"), image = picture(scene), svg = outlinesIn(data), lines = element("g", {});
  const heats = [...page.querySelectorAll(".heat")].map((input) => [input, picture(scene)]);
  image.style.filter = grey;
  svg.append(filter, lines);
  scene.append(svg);
  const where = add(stage, "div", "over where"), scale = add(stage, "div", "over scale");
  for (const [side, letters] of Object.entries(data.sides ?? {})) add(stage, "div", "over " + side, letters);
  const view = {zoom: 1, x: 0, y: 0};  // x and y: the scene's corner, in widths and heights of the stage

  const layers = () => [...page.querySelectorAll(".layer")].reverse().filter((input) => input.checked);
  function outlines(slice) {
    const blend = box(".blend") ? box(".blend").value / 50 : 1;
    const opacity = {truth: Math.min(1, 2 - blend), prediction: Math.min(1, blend)};
    const groups = layers().map((input) => {
      const group = paths(input.value, data.layers[input.value][slice], box(".fill").checked);
      group.style.opacity = opacity[input.value] ?? 1;
      return group;
    });
    if (box(".insertions")?.checked) groups.push(insertions(data.marks[slice]));
    return groups;
  }

  const tiles = data.images.map((source, slice) => {
    const tile = add(box(".tiles"), "button", "tile");
    tile.type = "button";
    tile.style.aspectRatio = `${data.width} / ${data.height}`;
    const small = picture(tile), drawing = outlinesIn(data);
    small.src = source;
    small.style.filter = grey;
    tile.append(drawing);
    add(tile, "span", "", [slice + 1, data.ends[slice] || data.rings[slice]].filter(Boolean).join(" "));
    tile.addEventListener("click", () => choose(slice));
    return {tile, drawing};
  });

  const say = (input, value) => { input.nextElementSibling.textContent = value; };
  function draw() {
    const slice = Number(slider.value);
    say(slider, `${slice + 1} of ${count}`);
    where.textContent = [`slice ${slice + 1} of ${count}`, data.ends[slice], data.rings[slice]].filter(Boolean)
      .filter((word, place, words) => words.indexOf(word) === place).join(", ");
    image.src = data.images[slice];
    setGrey(windowed.value / 100, level.value / 100);
    // In the image's own unit, as other viewers have them.
    say(windowed, Number((windowed.value / 100 * range).toPrecision(4)));
    say(level, Number((lowest + level.value / 100 * range).toPrecision(4)));
    for (const [input, heat] of heats) {
      heat.src = data.maps[input.value][slice];
      heat.hidden = !input.checked;
    }
    lines.replaceChildren(...outlines(slice));
    tiles.forEach(({tile}, number) => tile.setAttribute("aria-current", number === slice));
    page.querySelectorAll("[data-slice]").forEach((row) => {
      row.style.background = Number(row.dataset.slice) === slice + 1 ? "var(--card)" : "";
    });
  }
  function drawTiles() {
    tiles.forEach(({drawing}, slice) => drawing.replaceChildren(...outlines(slice)));
  }
  function place() {
    view.x = within(view.x, 1 - view.zoom, 0);
    view.y = within(view.y, 1 - view.zoom, 0);
    Object.assign(scene.style, {
      left: `${100 * view.x}%`, top: `${100 * view.y}%`, width: `${100 * view.zoom}%`, height: `${100 * view.zoom}%`,
    });
    const wide = data.width / view.zoom, bar = [50, 20, 10, 5, 2].find((length) => length < wide / 4) ?? 1;
    scale.textContent = `${bar} mm`;
    scale.style.width = `${100 * bar / wide}%`;
  }
  // Around a point of the stage that stays where it is; from 0 to 1 across and down.
  function zoom(factor, x = 0.5, y = 0.5) {
    const before = view.zoom;
    view.zoom = within(before * factor, 1, 12);
    view.x = x - (x - view.x) * view.zoom / before;
    view.y = y - (y - view.y) * view.zoom / before;
    place();
  }
  function reset() {
    Object.assign(view, {zoom: 1, x: 0, y: 0});
    windowed.value = 100 * (data.shown[1] - data.shown[0]) / range;
    level.value = 100 * ((data.shown[0] + data.shown[1]) / 2 - lowest) / range;
    place();
    draw();
  }
  function choose(slice) {
    slider.value = within(slice, 0, count - 1);
    draw();
  }
  const step = (by) => choose(Number(slider.value) + by);
  // One heat map at a time: they have one colour.
  function changed(input) {
    if (input.className === "heat" && input.checked) {
      for (const [other] of heats) other.checked = other === input;
    }
    draw();
    if (input.type === "checkbox" || input.className === "blend") drawTiles();
  }

  let turned = 0;
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const at = stage.getBoundingClientRect();
    if (event.ctrlKey) {
      zoom(Math.exp(-event.deltaY / 300), (event.clientX - at.left) / at.width, (event.clientY - at.top) / at.height);
      return;
    }
    turned += event.deltaY * (event.deltaMode ? 40 : 1);  // in lines with some browsers
    if (Math.abs(turned) < 40) return;
    step(Math.sign(turned));
    turned = 0;
  }, {passive: false});
  stage.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "touch" || event.button > 1) return;  // a finger scrolls the page
    stage.setPointerCapture(event.pointerId);
    event.preventDefault();
    stage.focus({preventScroll: true});
  });
  stage.addEventListener("pointermove", (event) => {
    if (!stage.hasPointerCapture(event.pointerId)) return;
    if (event.shiftKey || event.buttons === 4) {
      view.x += event.movementX / stage.clientWidth;
      view.y += event.movementY / stage.clientHeight;
      place();
    } else {
      windowed.value = Number(windowed.value) + event.movementX / 3;
      level.value = Number(level.value) + event.movementY / 6;
      draw();
    }
  });
  stage.addEventListener("dblclick", reset);
  box(".reset").addEventListener("click", reset);
  page.querySelectorAll(".zoom").forEach((button) => button.addEventListener("click", () => zoom(Number(button.value))));
  page.querySelectorAll("input").forEach((input) => input.addEventListener("input", () => changed(input)));
  page.querySelectorAll("[data-slice]").forEach((row) => {
    row.style.cursor = "pointer";
    row.addEventListener("click", () => choose(Number(row.dataset.slice) - 1));
  });

  function key(name) {
    const does = {"+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), 0: reset}[name];
    const toggle = /^[a-z]$/.test(name) && box(`[data-key=${name}]`);
    if (does) does();
    else if (toggle) toggle.click();
    return Boolean(does || toggle);
  }
  slider.max = count - 1;
  slider.value = Math.floor(count / 2);
  reset();
  drawTiles();
  return {step, key};
}
