// The stage: one figure for the truth and one for the predictions, their legend, tables and what is under the cursor.

const VIEWS = [
  ["photo", "Photo", "The photo."],
  ["instances", "Instances", "Filled: visible. Striped: hidden, in the color of the hidden instance. Click an instance to isolate it."],
  ["layers", "Global layers", "Number of instances over each pixel."],
  ["levels", "Levels", "Visibility levels of one instance: 0 is visible, k is hidden by k objects."],
  ["semdist", "Sem-dist map", "Semantics-aware distance map of one instance: M = C - L, its confidence minus its level."],
  ["relative", "Relative depth", "Where A and B overlap, the color of the closer one (R = L_B - L_A)."],
  ["exploded", "Exploded", "One layer per level, the visible one in front. Drag to rotate."],
];
const SINGLE = new Set(["levels", "semdist"]);
const WITH_PLANE = new Set(["instances", "layers", "levels", "semdist"]);

function element(name, options = {}, ...children) {
  const made = Object.assign(document.createElement(name), options);
  made.append(...children);
  return made;
}

function percent(share) {
  const value = 100 * share;
  return `${value > 0 && value < 1 ? value.toFixed(1) : Math.round(value)}%`;
}

const plural = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;

// The instance of a side that is shown alone, or stands for the one of the other side that is; null = none.
function aloneOn(picture, layers, state) {
  if (state.alone === null) return null;
  const n = state.side === layers.kind ? state.alone : picture.counterpart(layers.kind, state.alone);
  return n !== null && n < layers.instances.length ? n : null;
}

// The instance a one-instance view shows: the isolated one, else the most hidden one.
function singleOf(picture, layers, state) {
  if (state.alone !== null) return aloneOn(picture, layers, state) ?? -1;
  if (layers.kind === "predicted" && picture.truth) return picture.counterpart("predicted", singleOf(picture, picture.truth, state)) ?? -1;
  return layers.mostHidden;
}

function chosenOf(picture, layers, state) {
  if (state.alone !== null) { const n = aloneOn(picture, layers, state); return n === null ? [] : [n]; }
  return layers.instances.map((_, n) => n).filter((n) => (layers.instances[n].score ?? 1) >= state.least);
}

function swatch(colour, striped = false) {
  const made = element("span", { className: "swatch" }), full = `rgb(${colour.join(",")})`;
  made.style.background = striped ? `repeating-linear-gradient(-45deg, ${full} 0 3px, transparent 3px 7px)` : full;
  return made;
}

// Draws one set of layers in a view that shows them on the photo, `single` in the views of one instance.
function drawView(picture, layers, state, single = SINGLE.has(state.view) ? singleOf(picture, layers, state) : -1) {
  const drawing = new Drawing(picture, layers), chosen = chosenOf(picture, layers, state);
  if (state.view === "photo") return drawing;
  drawing.dim();
  if (state.view === "instances") drawing.instances(chosen, state.plane).unknown();
  else if (state.view === "layers") drawing.count(chosen, state.plane);
  else if (single >= 0) drawing[state.view === "levels" ? "levels" : "semDist"](single, state.plane);
  return drawing;
}

// A view of one set of layers: { drawing, caption, tags }.
function drawFigure(picture, layers, state) {
  const chosen = chosenOf(picture, layers, state), { view } = state, title = layers.kind === "truth" ? (picture.predicted ? "truth" : "") : "predicted";
  const said = (text) => [title, text].filter(Boolean).join(": ");
  const single = SINGLE.has(view) ? singleOf(picture, layers, state) : -1, drawing = drawView(picture, layers, state, single);
  if (view === "photo") return { drawing, caption: picture.problem, tags: [] };
  if (!SINGLE.has(view)) return { drawing, caption: said(`${chosen.length} of ${plural(layers.instances.length, "instance")}`), tags: view === "instances" ? labelPlaces(layers, chosen) : [] };
  if (single < 0) return { drawing, caption: said(layers.kind === "truth" ? "no matching instance" : "no matching detection"), tags: [] };
  const one = layers.instances[single], score = one.score === undefined ? "" : `, score ${one.score.toFixed(2)}`;
  return { drawing, caption: said(`${layers.label(single)}, ${percent(one.rate)} hidden${score}`), tags: [] };
}

// How many of the chosen instances, of truth or predictions, lie over one pixel at most; at least 2.
function mostShown(picture, state) {
  let most = 2;
  for (const layers of picture.layers) {
    const rows = chosenOf(picture, layers, state).map((n) => layers.table[n]);
    for (let region = 0; rows.length && region < rows[0].length; region++)
      most = Math.max(most, rows.reduce((count, row) => count + (row[region] > 0), 0));
  }
  return most;
}

const verdict = (order) => (order > 0 ? "A is in front" : order < 0 ? "B is in front" : "A and B do not overlap, or their order is undecided");

function drawRelative(picture, layers, state) {
  const drawing = new Drawing(picture, layers).dim();
  const { a, b } = pairOn(picture, layers, state);
  if (a === null || b === null || a === b) return { drawing, caption: `${layers.kind}: no matching pair`, tags: [], order: null };
  const order = drawing.relative(a, b);
  const places = labelPlaces(layers, [a, b]).map((place) => ({ ...place, text: `${place.n === a ? "A" : "B"}: ${place.n}` }));
  return { drawing, caption: `${layers.kind}: A is ${layers.label(a)}, B is ${layers.label(b)}; ${verdict(order)}`, tags: places, order };
}

// The pair picked, else the first overlapping one.
function pairOf(layers, state) {
  const count = layers.instances.length;
  if (count < 2) return { a: null, b: null };
  if (state.a !== null && state.b !== null && state.a < count && state.b < count && state.a !== state.b) return { a: state.a, b: state.b };
  const [a, b] = layers.pairs[0] || [0, 1];
  return { a, b };
}

// The pair on one side: predictions stand for the true instances that were picked.
function pairOn(picture, layers, state) {
  if (layers.kind === "truth" || !picture.truth) return pairOf(layers, state);
  const { a, b } = pairOf(picture.truth, state);
  return { a: picture.counterpart("predicted", a), b: picture.counterpart("predicted", b) };
}

function figure(picture, layers, made) {
  const canvas = element("canvas", { width: picture.shown[1], height: picture.shown[0] });
  canvas.getContext("2d").putImageData(made.drawing.image, 0, 0);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${made.caption || "photo"}, image ${picture.id}`);
  canvas.dataset.kind = layers.kind;
  // small images are enlarged, never blurred: level edges are pixel edges
  const zoom = Math.max(1, Math.min(6, Math.floor(480 / picture.shown[1])));
  canvas.style.width = `min(${picture.shown[1] * zoom}px, calc(66vh * ${picture.shown[1] / picture.shown[0]}))`;
  canvas.style.imageRendering = zoom > 1 ? "pixelated" : "auto";
  const sheet = element("div", { className: "sheet" }, canvas);
  for (const tag of spread(made.tags)) {
    const label = element("span", { className: "tag", textContent: tag.text ?? String(tag.n) });
    label.style.left = `${100 * tag.x}%`;
    label.style.top = `${100 * tag.y}%`;
    if (!tag.text) Object.assign(label.dataset, { short: tag.n, whole: [tag.n, layers.instances[tag.n].name].filter((part) => part !== "").join(" ").slice(0, 24) });
    sheet.append(label);
  }
  const mark = element("span", { className: "mark", hidden: true });
  sheet.append(mark);
  return element("figure", {}, sheet, element("figcaption", { textContent: made.caption }));
}

// Labels that would lie on each other are moved apart downwards, inside the picture.
function spread(tags) {
  const placed = [];
  for (const tag of [...tags].sort((one, other) => one.y - other.y)) {
    let y = Math.min(0.97, Math.max(0.03, tag.y));
    const x = Math.min(0.97, Math.max(0.03, tag.x));
    for (const before of placed) if (Math.abs(before.x - x) < 0.06 && Math.abs(before.y - y) < 0.05) y = before.y + 0.05;
    placed.push({ ...tag, x, y: Math.min(0.97, y) });
  }
  return placed;
}

// Class names on the labels, where they reach neither another label nor the edge of the picture.
function spreadTags() {
  for (const sheet of document.querySelectorAll(".sheet")) {
    const tags = [...sheet.querySelectorAll(".tag[data-whole]")], frame = sheet.getBoundingClientRect();
    const boxes = (name) => {
      for (const tag of tags) tag.textContent = tag.dataset[name];
      return tags.map((tag) => tag.getBoundingClientRect());
    };
    const whole = boxes("whole"), taken = boxes("short");
    const cross = (one, other) => one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom;
    tags.forEach((tag, at) => {
      const box = whole[at], inside = box.left >= frame.left && box.right <= frame.right;
      if (!inside || taken.some((other, n) => n !== at && cross(box, other))) return;
      tag.textContent = tag.dataset.whole;
      taken[at] = box;
    });
  }
}

// Layers of levels in space, the visible one in front.
function explode(picture, layers, state) {
  const turn = element("div", { className: "turn" }), chosen = chosenOf(picture, layers, state);
  for (let level = layers.deepest; level >= 0; level--) {
    const drawing = new Drawing(picture, layers).layer(chosen, level);
    const canvas = element("canvas", { width: picture.shown[1], height: picture.shown[0] });
    canvas.getContext("2d").putImageData(drawing.image, 0, 0);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `level ${level}`);
    turn.append(element("div", { className: "layer" }, canvas, element("span", { className: "tag", textContent: `level ${level}` })));
  }
  const place = () => {
    turn.style.transform = `rotateX(${state.tilt}deg) rotateY(${state.spin}deg)`;
    const gap = Math.min(36, 50 / Math.max(1, layers.deepest)); // in hundredths of the box's width
    [...turn.children].forEach((layer, at) => { layer.style.transform = `translateZ(${(at - layers.deepest / 2) * gap}cqw)`; });
  };
  place();
  const box = element("div", { className: "exploded" }, turn);
  box.addEventListener("pointerdown", (event) => { box.setPointerCapture(event.pointerId); });
  box.addEventListener("pointermove", (event) => {
    if (!event.buttons) return;
    state.spin = Math.max(-80, Math.min(80, state.spin + event.movementX * 0.4));
    state.tilt = Math.max(-80, Math.min(80, state.tilt - event.movementY * 0.4));
    place();
  });
  const title = picture.predicted ? `${layers.kind}: ` : "";
  return element("figure", {}, box, element("figcaption", { textContent: `${title}level 0 (visible) in front, level ${layers.deepest} at the back` }));
}

const bandsTo = (most) => COLOURS.bands.slice(0, most);
const more = (at, most) => (at === COLOURS.bands.length && most > at ? " or more" : "");

function drawLegend(picture, state, target) {
  target.replaceChildren();
  const highest = Math.max(2, picture.deepest + 1), said = (text, ...swatches) => target.append(element("span", {}, ...swatches, text));
  if (state.view === "instances") {
    said("visible", swatch(colourOf(1)));
    said("hidden", swatch(colourOf(1), true));
    if (picture.truth?.unknown.size) said("not annotated", swatch(RIM, true));
    said(picture.layers.length > 1 ? "a matched detection has the color of its true instance" : "one color per instance");
  }
  if (state.view === "exploded") said("one color per instance");
  if (state.view === "relative") {
    const side = picture.truth || picture.predicted, { a, b } = pairOf(side, state);
    if (a !== null) { said("A is closer", swatch(identity(side, a))); said("B is closer", swatch(identity(side, b))); said("pale: no overlap"); }
  }
  if (state.view === "levels")
    bandsTo(highest).forEach((colour, level) => said(`level ${level}${level ? more(level + 1, highest) : " (visible)"}`, swatch(colour)));
  if (state.view === "layers") {
    bandsTo(mostShown(picture, state)).forEach((colour, at) => said(`${at + 1}${more(at + 1, mostShown(picture, state))} instance${at ? "s" : ""}`, swatch(colour)));
  }
  if (state.view === "semdist") {
    said("M = C - L:");
    for (let level = 0; level <= Math.min(Math.max(1, picture.deepest), COLOURS.bands.length - 1); level++) {
      const ramp = element("canvas", { className: "ramp", width: 56, height: 1 }), pen = ramp.getContext("2d");
      for (let x = 0; x < 56; x++) {
        pen.fillStyle = `rgb(${semDistColour(1 - level - (0.5 * x) / 56).map(Math.round).join(",")})`;
        pen.fillRect(x, 0, 1, 1);
      }
      said(level ? `hidden by ${level}${level === COLOURS.bands.length - 1 ? " or more" : ""}, M up to ${1 - level}` : "visible, M up to 1", ramp);
    }
    said("grayer = lower confidence C");
  }
}

// The table of one set of instances: colour, name, area, share hidden, pixels per level, who hides it.
function instanceTable(picture, layers, state, act) {
  const shown = SINGLE.has(state.view) ? [singleOf(picture, layers, state)] : chosenOf(picture, layers, state);
  const body = element("tbody"), chosen = new Set(shown);
  const scored = layers.kind === "predicted";
  layers.instances.forEach((one, n) => {
    const alone = state.alone === n && state.side === layers.kind;
    const pick = element("button", { type: "button", textContent: layers.label(n), title: "Isolate this instance" });
    pick.setAttribute("aria-pressed", String(alone));
    pick.dataset.pick = `${layers.kind} ${n}`;
    pick.addEventListener("click", () => act(layers.kind, n));
    const front = layers.pairs.filter(([, back]) => back === n).map(([first]) => first);
    const cells = [
      element("td", {}, swatch(identity(layers, n)), pick),
      element("td", { className: "number", textContent: percent(one.rate) }),
      scored ? element("td", { className: "number", textContent: one.score.toFixed(2) }) : element("td", { textContent: front.join(", ") || "nothing", title: front.map((one) => layers.label(one)).join(", ") }),
      element("td", {}, levelBar(one)),
      element("td", { className: "number", textContent: one.area.toLocaleString("en") }),
    ];
    body.append(element("tr", { className: chosen.has(n) ? "" : "off" }, ...cells));
  });
  const heads = ["instance", "hidden", scored ? "score" : "hidden by", "levels", "pixels"], numbers = scored ? [1, 2, 4] : [1, 4];
  const head = element("tr", {}, ...heads.map((text, at) => element("th", { scope: "col", textContent: text, className: numbers.includes(at) ? "number" : "" })));
  const left = layers.leftOut ? ` (${layers.leftOut} more with lower scores are not on this page)` : "";
  const caption = element("caption", { textContent: (scored ? "predicted" : "instances") + left });
  return element("div", { className: "wide" }, element("table", {}, caption, element("thead", {}, head), body));
}

function levelBar(one) {
  const bar = element("span", { className: "levels" }), stops = [];
  let at = 0;
  one.levels.forEach((pixels, level) => {
    const from = at;
    at += (100 * pixels) / Math.max(1, one.area);
    stops.push(`rgb(${bandColour(level + 1).join(",")}) ${from}% ${at}%`);
  });
  bar.style.background = `linear-gradient(to right, ${[...stops, `transparent ${at}%`].join(", ")})`;
  bar.setAttribute("role", "img");
  bar.setAttribute("aria-label", one.levels.map((pixels, level) => `level ${level}: ${pixels}`).join(", "));
  bar.title = bar.getAttribute("aria-label");
  return bar;
}

// What lies under a pixel, nearest first, one line each.
function stackLines(layers, pixel, chosen) {
  const found = layers.stack(pixel, chosen);
  if (!found.length) return ["no instance"];
  return found.map(({ n, level, confidence }) => {
    const where = level ? `level ${level}, hidden by ${plural(level, "object")}` : "level 0, visible";
    return `${layers.label(n)}: ${where}; M = ${confidence.toFixed(3)} - ${level} = ${(confidence - level).toFixed(3)}`;
  });
}
