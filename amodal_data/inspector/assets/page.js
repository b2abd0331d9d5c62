// The page: its state, kept in the address, and what clicks and keys do to it.

const about = block("about");
COLOURS = about.colours;
const byId = (name) => document.getElementById(name);
const state = { view: "instances", plane: Infinity, alone: null, side: "truth", a: null, b: null, least: 0.5, spin: -54, tilt: 10 };
const pictures = new Map();
let picture = null, list = null, filters = null, screen = "images", timer = null, turn = 0;

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const number = (name) => (/^\d+(\.\d+)?$/.test(given.get(name) ?? "") ? Number(given.get(name)) : null);
  const whole = (name) => (Number.isInteger(number(name)) ? number(name) : null);
  const view = VIEWS.find(([name]) => name === given.get("view"));
  Object.assign(state, {
    view: view ? view[0] : "instances", plane: number("plane") ?? Infinity, alone: whole("alone"),
    side: given.get("side") === "predicted" ? "predicted" : "truth", a: whole("a"), b: whole("b"),
    least: Math.min(1, number("score") ?? 0.5),
  });
  filters.read(given);
  list.fill();
  return { position: about.images.findIndex((image) => String(image.id) === given.get("image")), list: given.get("list") };
}

// Going from one screen to another is a step that the browser's Back undoes.
function setAddress(given, next) {
  filters.write(given);
  history[next === screen ? "replaceState" : "pushState"](null, "", `#${given}`);
  screen = next;
}

function writeAddress() {
  const given = new URLSearchParams({ image: picture.id, view: state.view });
  if (state.plane !== Infinity) given.set("plane", state.plane);
  if (state.alone !== null) { given.set("alone", state.alone); if (state.side === "predicted") given.set("side", "predicted"); }
  if (picture.predicted && state.least !== 0.5) given.set("score", state.least);
  if (state.a !== null && state.b !== null) { given.set("a", state.a); given.set("b", state.b); }
  setAddress(given, "image");
}

// Shows the grid of thumbnails or the list of findings.
function showOverview(next) {
  stop();
  turn++;
  setAddress(new URLSearchParams({ list: next }), next);
  showScreen();
  document.title = `${about.title}: ${next}`;
  document.documentElement.dataset.ready = next;
}

function showScreen() {
  byId("overview").hidden = screen === "image";
  byId("image-view").hidden = screen !== "image";
  byId("images").hidden = screen !== "image";
  byId("more").classList.toggle("off", screen !== "image");
  byId("grid").hidden = screen !== "images";
  byId("finding-list").hidden = screen !== "findings";
  byId("show-images").setAttribute("aria-pressed", String(screen === "images"));
  byId("show-findings").setAttribute("aria-pressed", String(screen === "findings"));
}

function filterChanged() {
  list.limit = PAGE;
  list.fill();
  if (screen === "image") writeAddress();
  else showOverview(screen);
}

async function open(position, keep = false) {
  const own = ++turn;
  if (!pictures.has(position)) {
    const read = await readImage(position);
    if (!read) return;
    pictures.set(position, new Picture(position, read));
  }
  const opened = pictures.get(position);
  await opened.load();
  if (own !== turn) return; // another image was asked for meanwhile
  picture = opened;
  if (!keep) Object.assign(state, { alone: null, a: null, b: null, plane: Infinity });
  if (!picture.truth) state.side = "predicted";
  byId("name").textContent = about.images[position].name;
  tellFindings();
  const errors = picture.errors && Object.entries(picture.errors).filter(([, count]) => count);
  byId("errors").textContent = errors && errors.length ? "In this image: " + errors.map(([name, count]) => `${count} ${name}`).join(", ") : "";
  list.mark(position);
  fillPairs();
  show();
  byId("list").classList.remove("open");
  byId("show-list").setAttribute("aria-expanded", "false");
}

function tellFindings() {
  byId("findings").replaceChildren(...picture.findings.map(([code, text]) => {
    const { severity, meaning } = about.codes[code];
    return element("li", { className: severity, textContent: `${severity} ${code}: ${meaning} (${text})` });
  }));
  byId("findings").hidden = !picture.findings.length;
}

function fillPairs() {
  const layers = picture.truth || picture.predicted, labels = layers.instances.map((_, n) => layers.label(n));
  if (JSON.stringify(labels) === fillPairs.filled) return;
  fillPairs.filled = JSON.stringify(labels);
  for (const name of ["a", "b"]) {
    const select = byId(`pair-${name}`);
    select.replaceChildren(...labels.map((textContent, value) => element("option", { value, textContent })));
  }
}

// Draws the image; `after` decides when what is below the picture follows.
function show(after = (rest) => rest()) {
  for (const button of byId("views").children) button.setAttribute("aria-pressed", String(button.dataset.view === state.view));
  byId("plane-tools").hidden = !WITH_PLANE.has(state.view);
  byId("score-tools").hidden = !picture.predicted || SINGLE.has(state.view) || state.view === "relative";
  byId("least").value = state.least;
  byId("least-text").textContent = state.least.toFixed(2);
  byId("all").hidden = state.alone === null;
  byId("pair-tools").hidden = state.view !== "relative";
  byId("about-view").textContent = VIEWS.find(([name]) => name === state.view)[2];
  const stage = byId("stage"), side = picture.truth || picture.predicted;
  stage.replaceChildren();
  stage.className = picture.layers.length > 1 && state.view !== "photo" ? "pair" : "";
  const drawn = state.view === "photo" ? [side] : picture.layers;
  for (const layers of drawn) {
    if (state.view === "exploded") { stage.append(explode(picture, layers, state)); continue; }
    if (state.view === "relative") {
      const made = drawRelative(picture, layers, state);
      if (layers === side) tellPair(layers, made.order);
      stage.append(figure(picture, layers, made));
      continue;
    }
    stage.append(figure(picture, layers, drawFigure(picture, layers, state)));
  }
  const slider = byId("plane"), smooth = picture.predicted && picture.predicted.instances.some((one) => one.confidence);
  slider.max = picture.deepest;
  slider.step = smooth ? 0.05 : 1;
  slider.value = state.plane === Infinity ? picture.deepest : state.plane;
  const at = Number(slider.value), named = at === 0 ? "visible parts" : at >= picture.deepest ? "whole objects" : `levels up to ${Math.floor(at)}`;
  byId("plane-text").textContent = `${at.toFixed(smooth ? 2 : 0)} of ${picture.deepest}: ${named}`;
  slider.setAttribute("aria-valuetext", byId("plane-text").textContent);
  byId("hover").textContent = "Point at the picture to list the instances at a pixel, nearest first.";
  writeAddress();
  showScreen();
  spreadTags();
  editor?.show();
  document.title = `${about.images[picture.position].name}: ${state.view} - ${about.title}`;
  after(() => {
    drawLegend(picture, state, byId("legend"));
    const focused = document.activeElement?.dataset.pick;
    byId("tables").replaceChildren(...picture.layers.map((layers) => instanceTable(picture, layers, state, isolate)));
    if (focused) document.querySelector(`[data-pick="${focused}"]`)?.focus();
  });
  document.documentElement.dataset.ready = `${picture.id} ${state.view}`;
}

function tellPair(layers, order) {
  const { a, b } = pairOf(layers, state);
  if (a === null) { byId("pair-text").textContent = "fewer than two instances"; return; }
  byId("pair-a").value = a;
  byId("pair-b").value = b;
  byId("pair-text").textContent = order > 0 ? `A (${layers.label(a)}) is in front` : order < 0 ? `B (${layers.label(b)}) is in front` : verdict(order);
}

function isolate(side, n) {
  const same = state.alone === n && state.side === side;
  Object.assign(state, { alone: same ? null : n, side });
  show();
}

function pixelUnder(event) {
  const canvas = event.target.closest(".sheet")?.querySelector("canvas");
  if (!canvas) return null;
  const box = canvas.getBoundingClientRect(), x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
  if (x < 0 || y < 0 || x >= 1 || y >= 1) return null;
  return { kind: canvas.dataset.kind, x, y, pixel: Math.floor(y * picture.shown[0]) * picture.shown[1] + Math.floor(x * picture.shown[1]) };
}

function hover(event) {
  const under = pixelUnder(event);
  if (!under) return;
  const lines = picture.layers.flatMap((layers) => [
    `${picture.layers.length > 1 ? `${layers.kind}, ` : ""}nearest first (M = confidence - level)`, ...stackLines(layers, under.pixel, everywhere(layers))]);
  byId("hover").replaceChildren(...lines.map((text) => element("span", { textContent: text })));
  for (const mark of document.querySelectorAll(".mark")) {
    mark.hidden = picture.layers.length < 2;
    mark.style.left = `${100 * under.x}%`;
    mark.style.top = `${100 * under.y}%`;
  }
}

// What a pixel can be asked about: all that is drawn when no instance is alone.
function everywhere(layers) { return chosenOf(picture, layers, { ...state, alone: null }); }

function click(event) {
  const under = pixelUnder(event);
  if (!under) return;
  const layers = picture.layers.find((one) => one.kind === under.kind), top = layers.stack(under.pixel, everywhere(layers))[0];
  if (editor) editor.pick(layers.stack(under.pixel, everywhere(layers)).map(({ n }) => n), event.shiftKey);
  else if (top) isolate(under.kind, top.n);
  else if (state.alone !== null) isolate(state.side, state.alone);
}

function setView(view) {
  stop();
  state.view = view;
  show();
}

function stop() {
  clearInterval(timer);
  timer = null;
  byId("play").setAttribute("aria-pressed", "false");
  byId("play").textContent = "Play";
}

function play() {
  if (timer) { stop(); return; }
  const smooth = Number(byId("plane").step) < 1, pause = smooth ? 120 : 900;
  state.plane = 0;
  byId("play").setAttribute("aria-pressed", "true");
  byId("play").textContent = "Stop";
  show();
  timer = setInterval(() => {
    if (state.plane >= picture.deepest) { stop(); return; }
    state.plane = Math.min(picture.deepest, Math.round((state.plane + (smooth ? 0.1 : 1)) * 100) / 100);
    show();
  }, pause);
}

function key(event) {
  if (editor?.shortcut(event) || event.ctrlKey || event.metaKey || event.altKey || !about.images.length) return;
  const typing = event.target.matches("input:not([type=range]), select");
  if (event.key === "Escape") { byId("search").blur(); state.alone = null; if (screen === "image") show(); return; }
  if (typing || editor?.key(event)) return;
  const go = { g: () => showOverview("images"), f: () => showOverview("findings"), "/": focusSearch }[event.key];
  if (go) { go(); event.preventDefault(); return; }
  if (screen !== "image") return;
  const onButton = event.target.matches("button, summary");
  const slide = (by) => { state.plane = Math.max(0, Math.min(picture.deepest, Number(byId("plane").value) + by)); show(); };
  const step = Number(byId("plane").step);
  const does = {
    j: () => open(list.neighbour(1)), k: () => open(list.neighbour(-1)),
    ArrowLeft: () => slide(-step), ArrowRight: () => slide(step), " ": () => { if (onButton) return false; play(); },
  };
  const view = VIEWS[Number(event.key) - 1];
  const found = view ? () => setView(view[0]) : does[event.key];
  if (found && !(event.target.type === "range" && event.key.startsWith("Arrow")) && found() !== false) event.preventDefault();
}

function focusSearch() {
  byId("list").classList.add("open");
  byId("search").focus();
}

// Opens an image of the overview, with one instance alone if a finding is about it.
async function openImage(position, instance = null) {
  await open(position);
  if (instance !== null) isolate(picture.truth ? "truth" : "predicted", instance);
}

// Goes where the address says.
function follow() {
  const { position, list: wanted } = readAddress();
  if (position >= 0) open(position, true);
  else if (about.images.length === 1 && !wanted) open(0);
  else showOverview(wanted === "findings" ? "findings" : "images");
}

function start() {
  startEditor();
  const flat = about.images.every((image) => !image.layered); // modal masks: nothing is hidden
  byId("title").textContent = about.title;
  byId("facts").textContent = Object.entries(about.facts).map(([name, value]) => `${name} ${value}`).join(" · ");
  for (const [name, title, text] of flat ? VIEWS.slice(0, 2) : VIEWS) {
    const button = element("button", { type: "button", textContent: title, title: text });
    button.dataset.view = name;
    button.addEventListener("click", () => setView(name));
    byId("views").append(button);
  }
  filters = new Filters(about.images, about.rates, about.codes, filterChanged);
  list = new Overview(filters, about.codes, openImage);
  byId("show-images").addEventListener("click", () => showOverview("images"));
  byId("show-findings").addEventListener("click", () => showOverview("findings"));
  byId("previous").addEventListener("click", () => open(list.neighbour(-1)));
  byId("next").addEventListener("click", () => open(list.neighbour(1)));
  byId("play").addEventListener("click", play);
  byId("all").addEventListener("click", () => { state.alone = null; show(); });
  byId("plane").addEventListener("input", (event) => { state.plane = Number(event.target.value); show(); });
  byId("least").addEventListener("input", (event) => { state.least = Number(event.target.value); show(); });
  for (const name of ["a", "b"]) byId(`pair-${name}`).addEventListener("change", () => {
    const before = pairOf(picture.truth || picture.predicted, state), other = name === "a" ? "b" : "a";
    state[name] = Number(byId(`pair-${name}`).value);
    state[other] = before[other] === state[name] ? before[name] : before[other]; // the same twice: they change places
    show();
  });
  byId("stage").addEventListener("pointermove", hover);
  byId("stage").addEventListener("click", click);
  byId("show-list").addEventListener("click", () => {
    const open = byId("list").classList.toggle("open");
    byId("show-list").setAttribute("aria-expanded", String(open));
  });
  document.addEventListener("keydown", key);
  window.addEventListener("hashchange", follow);
  window.addEventListener("resize", spreadTags);
  if (!about.images.length) { document.title = about.title; byId("count").textContent = "no images"; byId("image-view").hidden = true; document.documentElement.dataset.ready = "empty"; return; }
  follow();
}

start();
