// The editor: the stack of an image, front to back, and what is sent to the server. Edits go one after the other.

const TAB = sessionStorage.tab || (sessionStorage.tab = crypto.randomUUID());

async function ask(path, body) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let answer, document;
  try {
    answer = await fetch(path, options);
    document = await answer.json();
  } catch {
    return { problem: "The server does not answer. Nothing was saved. Start amodal-data edit again." };
  }
  return answer.ok ? document : { problem: document.problem, status: answer.status };
}

class Editor {
  constructor() {
    Object.assign(this, { images: new Map(), chosen: null, second: null, writer: false, queue: Promise.resolve(), waiting: 0, problem: "", bending: false, point: null, dragging: false, draft: null, proposal: null });
    this.box = element("section", { id: "editor" });
    this.box.setAttribute("aria-label", "Order");
    const button = (id, text, title, act) => {
      const made = element("button", { id, type: "button", textContent: text, title });
      made.addEventListener("click", act);
      return made;
    };
    this.undo = button("undo", "Undo", "Undo (Ctrl+Z)", () => this.walk("undo"));
    this.redo = button("redo", "Redo", "Redo (Ctrl+Shift+Z)", () => this.walk("redo"));
    this.take = button("take", "Edit here", "Edit in this tab; the other one becomes read-only", () => this.claim(true));
    this.done = button("done", "Done, next", "Mark this image as done and open the next one (d)", () => this.finish());
    this.remove = button("remove", "Delete", "Delete the chosen instance (Delete)", () => this.delete());
    this.name = element("input", { id: "instance-name", type: "text", maxLength: 200, autocomplete: "off" });
    this.name.setAttribute("list", "known-names");
    this.name.addEventListener("change", () => this.rename(this.name.value));
    this.name.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === "Escape") { if (event.key === "Escape") this.fill(); this.focus(); event.stopPropagation(); } });
    this.exchange = button("swap", "Swap", "", () => this.swap());
    this.suggest = button("propose", "Propose", "Propose the whole object for what is visible (p)", () => this.propose());
    this.accept = button("accept", "Accept", "Take the proposed outline (Enter)", () => this.endProposal(true));
    this.refuse = button("refuse", "Leave", "Keep the outline as it was (Escape)", () => this.endProposal(false));
    this.bend = button("bend", "Outline", "Show the points of the outline (o)", () => this.toggleOutline());
    const names = element("datalist", { id: "known-names" }, ...about.names.map((value) => element("option", { value })));
    this.chosenTools = element("div", { id: "chosen-tools" }, element("label", { textContent: about.classes_only ? "Class " : "Name " }, this.name), this.exchange, this.suggest, this.accept, this.refuse, this.bend, this.remove, names);
    this.state = element("p", { id: "editor-state" });
    this.state.setAttribute("role", "status");
    this.stack = element("ol", { id: "stack" });
    this.stack.setAttribute("role", "listbox");
    this.stack.setAttribute("aria-multiselectable", "true");
    this.stack.setAttribute("aria-label", "Instances, front to back");
    this.apart = element("ol", { id: "apart" });
    this.apartPart = element("details", { id: "apart-part" }, element("summary"), this.apart);
    this.draw = button("draw", "New instance", "Draw a new instance (n)", () => this.startDraft("draw"));
    this.mark = button("mark", "Unknown region", about.unknown ? "Mark where objects are not annotated (u)" : "Files of this layout cannot mark pixels unknown", () => this.startDraft("unknown"));
    this.newName = element("input", { id: "new-name", type: "text", maxLength: 200, autocomplete: "off" });
    this.newName.setAttribute("list", "known-names");
    this.newName.addEventListener("keydown", (event) => { if (event.key === "Escape") this.endDraft(); event.stopPropagation(); });
    this.newForm = element("form", { id: "new-tools", hidden: true }, element("label", { textContent: about.classes_only ? "Class " : "Name " }, this.newName),
      element("button", { textContent: "Add" }), button("leave", "Cancel", "Leave without a new instance (Escape)", () => this.endDraft()));
    this.newForm.addEventListener("submit", (event) => { event.preventDefault(); this.add(); });
    const tools = element("div", { id: "editor-tools" }, element("h2", { textContent: "Front to back" }), this.undo, this.redo, this.draw, this.mark, this.done, this.take, this.state);
    this.box.append(tools, this.newForm, this.stack, this.apartPart, this.chosenTools);
    document.getElementById("details").prepend(this.box);
    document.getElementById("keys").append(element("p", { textContent:
      "Up, down: instance in the stack. ] or Alt+Up: forward. [ or Alt+Down: backward. } and {: to the front, to the back. Shift+up, down: second instance; x: swap the two. Delete: delete. F2: name. d: done, next image. o: points of the outline; then comma, period: point, arrows: move it (Shift: 10 px), Insert: new point, Backspace: delete it. p: propose the whole object; Enter: accept, Escape: leave. n: new instance. u: unknown region. Then arrows: move the cross (Shift: 10 px), Insert: point, Backspace: delete the last one, Enter: close, Escape: leave. Ctrl+Z, Ctrl+Shift+Z: undo, redo." }));
    window.addEventListener("pagehide", () => fetch("release", {
      method: "POST", keepalive: true, headers: { "Content-Type": "application/json" }, body: JSON.stringify({ tab: TAB }) }).catch(() => {}));
    window.addEventListener("pageshow", (event) => { if (event.persisted) this.claim(false); });
    this.claim(false);
  }

  get now() { return this.images.get(picture?.position); }

  async claim(take) {
    const { writer, problem } = await ask("claim", { tab: TAB, take });
    this.writer = writer === true;
    this.problem = problem || "";
    if (take && picture) await this.reload();
    else if (picture) this.show();
  }

  // Reads an image: what the page draws, and its stack.
  async read(position) {
    const read = await ask(`image/${position}`);
    if (read.problem) { this.problem = read.problem; this.tell(); return null; }
    this.images.set(position, read);
    return read.document;
  }

  async reload() {
    const position = picture.position, read = await this.read(position);
    if (read && picture.position === position) { picture.setLayers(read); this.take_(); }
  }

  // Takes what the image has become into the page.
  take_() {
    const { row, codes } = this.now;
    Object.assign(about.codes, codes);
    about.images[picture.position] = row;
    Object.assign(filters.images[picture.position], row);
    picture.findings = row.findings;
    tellFindings();
    fillPairs();
    show((rest) => this.later(() => { list.fill(); list.mark(picture.position); rest(); }));
  }

  // Does something when the new picture is on the screen; of several tasks the last one.
  later(task) {
    const own = this.turn = (this.turn || 0) + 1;
    requestAnimationFrame(() => setTimeout(() => { if (own === this.turn) task(); }));
  }

  // Sends an edit, or what a function makes of the image when its turn comes; null = nothing to send.
  send(edit) {
    const position = picture.position;
    this.waiting++;
    this.queue = this.queue.then(async () => {
      this.waiting--;
      const image = this.images.get(position), made = typeof edit === "function" ? edit(image) : edit;
      if (!made || !this.writer) return;
      if (made.do === "move" && picture.position === position) this.moveAhead(image, made);
      const answer = await ask("edit", { tab: TAB, image: position, revision: image.revision, edit: made });
      this.problem = answer.problem || "";
      if (answer.problem) {
        if (answer.status === 409) await this.claim(false);
        if ((answer.status === 409 || made.do === "outline") && picture.position === position) await this.reload();
        this.problem = answer.problem;
        pictures.get(position).setLayers(this.images.get(position).document);
        show(); // the picture too: a move may have been drawn ahead
        return;
      }
      const opened = pictures.get(position), chosen = picture === opened && this.chosen !== null ? image.positions[this.chosen] : null;
      // points that were moved meanwhile stay where they are: their edits are on the way
      if (!answer.outlines || (this.waiting && answer.positions.length === image.positions.length)) answer.outlines = image.outlines;
      this.images.set(position, answer);
      if (picture === opened) { // an instance that is gone moves the numbers of those after it
        const at = answer.positions.indexOf(chosen), place = image.stack.indexOf(this.chosen);
        this.chosen = chosen === null ? null : at >= 0 ? at : answer.stack[Math.min(place, answer.stack.length - 1)] ?? null;
        const second = answer.positions.indexOf(image.positions[this.second]);
        this.second = second < 0 || second === this.chosen ? null : second;
        if (answer.positions.length !== image.positions.length) Object.assign(state, { alone: null, a: null, b: null });
      }
      opened.setLayers(answer.document);
      if (picture === opened && !this.dragging) this.take_();
    });
    return this.queue;
  }

  // Draws the layers of the picture again, and nothing around them; other views follow with the next `show`.
  repaint() {
    const canvas = document.querySelector('#stage canvas[data-kind="truth"]');
    if (canvas && state.view !== "relative" && state.view !== "exploded") canvas.getContext("2d").putImageData(drawView(picture, picture.truth, state).image, 0, 0);
  }

  // Draws a move at once, where only the order decides the levels; the server's answer follows.
  moveAhead(image, { instance, before }) {
    const layers = picture.truth, { stack, positions } = image, moved = positions.indexOf(instance), rest = stack.filter((n) => n !== moved);
    const agree = (codes) => codes.every((row, n) => row.every((code, region) => code === layers.table[n][region]));
    if (!agree(codesOf(stack, layers.table))) return; // the file says itself what is visible
    rest.splice(before === null ? rest.length : rest.indexOf(positions.indexOf(before)), 0, moved);
    layers.table = codesOf(rest, layers.table);
    this.repaint();
  }

  // Draws the levels of an outline while a point of it is dragged; nothing is saved.
  async preview(n, polygons) {
    this.moved = true;
    if (this.previewing || this.proposal) return;
    this.previewing = true;
    this.moved = false;
    const { position } = picture, { revision } = this.now, edit = { do: "outline", instance: this.position(n), polygons };
    const { document: made } = await ask("preview", { image: position, revision, edit });
    const current = this.dragging && picture.position === position && this.now.revision === revision;
    if (made && current && made.truth.instances.length === picture.truth.instances.length) { picture.setLayers(made); this.repaint(); }
    setTimeout(() => { this.previewing = false; if (this.dragging && this.moved) this.preview(n, polygons); }, PAUSE);
  }

  // Undo or redo, if there is something to.
  walk(step) { return this.send((image) => (image[step] ? { do: step } : null)); }

  // Instances are numbered as on the page; edits name their position in the source.
  position(n) { return this.now.positions[n]; }

  // The instances that overlap one.
  partners(image, n) {
    if (!image.partners) {
      image.partners = new Map(image.stack.map((one) => [one, new Set()]));
      for (const [a, b] of image.overlaps) { image.partners.get(a).add(b); image.partners.get(b).add(a); }
    }
    return image.partners.get(n);
  }

  // Moves past the next overlapping instance, since the others change no level; `far`: past all.
  step(n, forward, far = false) {
    return this.send((image) => {
      const { stack, positions } = image, at = stack.indexOf(n), partners = this.partners(image, n);
      const ahead = forward ? stack.slice(0, at).reverse() : stack.slice(at + 1);
      const next = far ? ahead.findLast((other) => partners.has(other)) : ahead.find((other) => partners.has(other));
      if (next === undefined) return null;
      const before = forward ? next : stack[stack.indexOf(next) + 1];
      return { do: "move", instance: positions[n], before: before === undefined ? null : positions[before] };
    });
  }

  show() {
    if (!this.now) return;
    if (this.shown !== picture.position) Object.assign(this, { shown: picture.position, chosen: null, second: null, point: null, draft: null, proposal: null });
    const { stack, overlaps, undo, redo } = this.now, overlapping = new Set(overlaps.flat());
    if (this.chosen !== null && !stack.includes(this.chosen)) this.chosen = null;
    const focused = this.box.contains(document.activeElement) ? [document.activeElement.closest("li"), document.activeElement.dataset.act] : null;
    this.stack.replaceChildren(...stack.filter((n) => overlapping.has(n)).map((n) => this.row(n, true)));
    const apart = stack.filter((n) => !overlapping.has(n));
    this.apart.replaceChildren(...apart.map((n) => this.row(n, false)));
    this.apartPart.hidden = !apart.length;
    this.apartPart.firstChild.textContent = `${plural(apart.length, "instance")} without an overlap: no order to correct`;
    this.undo.disabled = !undo || !this.writer;
    this.redo.disabled = !redo || !this.writer;
    this.take.hidden = this.writer;
    this.done.disabled = this.draw.disabled = !this.writer;
    this.mark.disabled = !this.writer || !about.unknown;
    this.fill();
    if (focused?.[0]) {
      const row = this.box.querySelector(`li[data-n="${this.chosen}"]`), same = row?.querySelector(`[data-act="${focused[1]}"]:not(:disabled)`);
      (same || row)?.focus();
    }
    this.tell();
    this.outline();
  }

  tell() {
    const edits = this.now ? plural(this.now.undo, "edit") : "";
    const count = (key) => about.images.filter((image) => image[key]).length;
    this.state.textContent = this.problem || (this.draft ? DRAFT[this.draft.closed ? "closed" : this.draft.kind] : this.writer ? `${edits} in this image, saved; ${count("done")} of ${plural(about.images.length, "image")} done, ${count("edits")} edited` : "Read-only: another tab edits this file.");
    this.state.classList.toggle("bad", Boolean(this.problem) || !this.writer);
  }

  row(n, movable) {
    const layers = picture.truth, one = layers.instances[n], partners = this.partners(this.now, n), { stack } = this.now, at = stack.indexOf(n);
    const row = element("li", { tabIndex: n === (this.chosen ?? stack[0]) ? 0 : -1 });
    row.dataset.n = n;
    row.setAttribute("role", "option");
    row.classList.toggle("second", n === this.second);
    row.setAttribute("aria-selected", String(n === this.chosen || n === this.second));
    const act = (name, text, forward, possible) => {
      const made = element("button", { type: "button", textContent: text, title: `${name} (${forward ? "]" : "["})`, disabled: !possible || !this.writer, tabIndex: -1 });
      made.dataset.act = name;
      made.setAttribute("aria-label", `Move ${layers.label(n)} ${name.toLowerCase()}`);
      made.addEventListener("click", (event) => { event.stopPropagation(); this.choose(n); this.step(n, forward); });
      return made;
    };
    const grip = element("span", { className: "grip", textContent: "⠿", title: "Drag to another place" });
    grip.setAttribute("aria-hidden", "true");
    if (movable && this.writer) grip.addEventListener("pointerdown", (event) => this.drag(event, n));
    row.append(...(movable ? [grip] : []), swatch(identity(layers, n)), element("span", { className: "label", textContent: layers.label(n), title: layers.label(n) }),
      element("span", { className: "share", textContent: one.rate ? `${percent(one.rate)} hidden` : "" }));
    if (movable) row.append(
      act("Forward", "▲", true, stack.slice(0, at).some((other) => partners.has(other))), act("Backward", "▼", false, stack.slice(at + 1).some((other) => partners.has(other))));
    row.addEventListener("mousedown", (event) => { if (event.shiftKey) event.preventDefault(); }); // keeps the focus, selects no text
    row.addEventListener("click", (event) => { this.choose(n, event.shiftKey); this.focus(); });
    row.addEventListener("focus", () => this.choose(n));
    return row;
  }

  // The name or class of the chosen instance, and whether it can be changed.
  fill() {
    const n = this.chosen;
    this.newForm.hidden = !(this.draft?.closed && this.draft.kind === "draw");
    this.draw.setAttribute("aria-pressed", String(this.draft?.kind === "draw"));
    this.mark.setAttribute("aria-pressed", String(this.draft?.kind === "unknown"));
    this.chosenTools.hidden = n === null || Boolean(this.draft);
    if (n !== null && document.activeElement !== this.name) this.name.value = picture.truth.instances[n].name;
    this.bend.disabled = n === null;
    this.bend.setAttribute("aria-pressed", String(this.bending));
    const proposed = this.proposal !== null;
    this.suggest.hidden = !about.proposes || proposed;
    this.suggest.disabled = !this.writer;
    this.accept.hidden = this.refuse.hidden = !proposed;
    this.bend.hidden = this.remove.hidden = this.exchange.hidden = proposed;
    this.exchange.disabled = this.second === null || !this.writer;
    this.exchange.title = this.second === null ? "Select a second instance with Shift and a click" : "Swap the places of the two selected instances (x)";
    this.name.disabled = this.remove.disabled = !this.writer;
  }

  rename(value) {
    const n = this.chosen;
    if (n !== null && value.trim() !== picture.truth.instances[n].name) this.send({ do: "rename", instance: this.position(n), name: value.trim() });
  }

  delete() { if (this.chosen !== null) this.send({ do: "delete", instance: this.position(this.chosen) }); }

  async finish() {
    const position = picture.position, images = filters.matching(), at = images.findIndex((image) => image.position === position);
    await this.send({ do: "done" });
    const next = [...images.slice(at + 1), ...images.slice(0, Math.max(0, at))].find((image) => !about.images[image.position].done);
    if (!this.problem && picture.position === position && next) open(next.position);
  }

  focus() { this.box.querySelector(`li[data-n="${this.chosen}"]`)?.focus({ preventScroll: false }); }

  // Selects an instance, or a second one beside it.
  choose(n, second = false) {
    if (second && n !== null && this.chosen !== null && n !== this.chosen) { this.second = n === this.second ? null : n; n = this.chosen; }
    else if (n !== this.chosen) Object.assign(this, { point: null, second: null, proposal: null });
    this.chosen = n;
    this.fill();
    for (const row of this.box.querySelectorAll("li")) {
      row.setAttribute("aria-selected", String([n, this.second].includes(Number(row.dataset.n))));
      row.classList.toggle("second", Number(row.dataset.n) === this.second);
      row.tabIndex = Number(row.dataset.n) === n ? 0 : -1;
    }
    this.outline();
  }

  swap() {
    const { chosen, second } = this;
    if (second !== null) this.send(({ positions }) => ({ do: "swap", instance: positions[chosen], other: positions[second] }));
  }

  // A click on the picture: the nearest instance there, at the next click the one behind it; second: beside the chosen one.
  pick(found, second = false) {
    if (second && this.chosen !== null) {
      const others = found.filter((n) => n !== this.chosen);
      if (others.length) this.choose(others[(others.indexOf(this.second) + 1) % others.length], true);
      return;
    }
    if (!found.length) { this.choose(null); return; }
    this.choose(found[(found.indexOf(this.chosen) + 1) % found.length]);
    const row = this.box.querySelector(`li[data-n="${this.chosen}"]`);
    if (this.apart.contains(row)) this.apartPart.open = true;
    this.focus();
  }

  // The outline of the chosen instance, its hidden part too, over the picture.
  outline() {
    document.querySelectorAll(".chosen-outline, .points").forEach((old) => old.remove());
    const sheet = document.querySelector("#stage .sheet"), n = this.chosen, layers = picture?.truth;
    if (this.draft && sheet) { sheet.append(this.draftSheet()); return; }
    if (n === null || !sheet || n >= layers.instances.length) return;
    if (this.second !== null) sheet.append(this.sheetOf(this.second, "#ffd34d"));
    sheet.append(this.shownOutline(n) ? this.points(n) : this.sheetOf(n, "#fff"));
  }

  // A sheet with the outline of one instance.
  sheetOf(n, line) {
    const layers = picture.truth, { width, height } = layers, canvas = element("canvas", { className: "chosen-outline", width, height });
    const pen = canvas.getContext("2d"), inside = (x, y) => x >= 0 && y >= 0 && x < width && y < height && layers.code(n, y * width + x) > 0;
    const [left, top, right, bottom] = layers.window(n);
    for (const [colour, wide] of [["#000", 2], [line, 1]]) {
      pen.fillStyle = colour;
      for (let y = top; y < bottom; y++) for (let x = left; x < right; x++)
        if (inside(x, y) && !(inside(x - 1, y) && inside(x + 1, y) && inside(x, y - 1) && inside(x, y + 1))) pen.fillRect(x - (wide - 1), y - (wide - 1), 2 * wide - 1, 2 * wide - 1);
    }
    return canvas;
  }

  toggleOutline() {
    this.bending = !this.bending;
    this.point = null;
    this.fill();
    this.outline();
  }

  // The polygons of an instance; those of a mask that is stored as runs are traced when they are first shown.
  outlineOf(n) {
    const shown = picture, traced = (shown.traced ??= new Map()), position = this.position(n);
    if (this.now.outlines[n] || traced.has(position)) return this.now.outlines[n] || traced.get(position);
    traced.set(position, null);
    ask(`outline/${shown.position}/${position}`).then(({ polygons, problem }) => {
      if (polygons) traced.set(position, polygons); else traced.delete(position);
      this.problem = problem || "";
      if (picture === shown) { this.tell(); if (polygons) this.outline(); }
    });
    return null;
  }

  // The polygons whose points are shown: those that are proposed, or those of an instance that is bent.
  shownOutline(n) { return this.proposal ?? (this.bending ? this.outlineOf(n) : null); }

  // Takes other polygons: into the proposal, or as an edit.
  setOutline(n, polygons) {
    if (!this.proposal) return this.send({ do: "outline", instance: this.position(n), polygons });
    this.proposal = polygons;
    return this.outline();
  }

  // Asks for the whole object of which the chosen instance shows a part.
  async propose() {
    const n = this.chosen, { position } = picture;
    if (n === null || this.suggest.hidden || this.suggest.disabled) return;
    this.problem = "";
    this.state.textContent = "Completing …";
    const made = await ask("propose", { image: position, instance: this.position(n) });
    if (picture.position !== position || this.chosen !== n) return;
    this.problem = made.problem || "";
    if (!made.problem) {
      this.proposal = made.polygons;
      this.point = null;
    }
    this.show();
    if (!made.problem) this.state.textContent = `Proposed: ${made.added.toLocaleString("en")} hidden pixels. Accept it, or bend it first.`;
  }

  endProposal(taken) {
    const { proposal, chosen } = this;
    this.proposal = this.point = null;
    if (taken) this.send({ do: "outline", instance: this.position(chosen), polygons: proposal });
    else this.show();
    this.focus();
  }

  // The outline of an instance with a handle for every point. Levels follow while one is dragged.
  points(n) {
    const polygons = this.shownOutline(n).map((polygon) => [...polygon]), { svg, scale, at } = overlay(this.proposal ? "points proposed" : "points");
    if (this.proposal) svg.append(stripes(scale));
    polygons.forEach((polygon, k) => {
      const text = () => polygon.join(" "), shape = drawn("polygon", { points: text() }), edge = drawn("polygon", { points: text(), class: "edge" });
      const hold = (event, place, fresh) => {
        if (!this.writer || event.button) return;
        event.preventDefault();
        event.stopPropagation();
        this.point = [k, place];
        this.dragging = true;
        const start = polygon.slice();
        if (fresh) polygon.splice(2 * place, 0, ...at(event));
        const held = fresh ? edge : event.target, move = (next) => {
          [polygon[2 * place], polygon[2 * place + 1]] = at(next);
          for (const node of [shape, edge]) node.setAttribute("points", text());
          if (!fresh) { held.setAttribute("cx", polygon[2 * place]); held.setAttribute("cy", polygon[2 * place + 1]); }
          this.preview(n, polygons);
        };
        held.setPointerCapture(event.pointerId);
        held.addEventListener("pointermove", move);
        const end = () => {
          held.removeEventListener("pointermove", move);
          this.dragging = false;
          if (polygon.every((x, i) => x === start[i]) && polygon.length === start.length) { picture.setLayers(this.now.document); show(); }
          else this.setOutline(n, polygons);
        };
        held.addEventListener("pointerup", end, { once: true });
        held.addEventListener("pointercancel", end, { once: true });
      };
      edge.addEventListener("pointerdown", (event) => hold(event, nearestSide(polygon, at(event)) + 1, true));
      svg.append(shape, edge);
      const around = polygon.reduce((sum, x, i) => sum + Math.abs(x - polygon[(i + 2) % polygon.length]), 0);
      const small = Math.max(1.5, Math.min(4.5, 0.9 * around / polygon.length / scale)); // so that handles do not cover each other
      for (let place = 0; place < polygon.length / 2; place++) {
        const chosen = this.point && this.point[0] === k && this.point[1] === place;
        const handle = drawn("circle", { cx: polygon[2 * place], cy: polygon[2 * place + 1], r: (chosen ? 7 : small) * scale, class: chosen ? "chosen" : small < 4.5 ? "dense" : "" });
        handle.addEventListener("pointerdown", (event) => hold(event, place, false));
        handle.addEventListener("dblclick", () => { this.point = [k, place]; this.changePoint("delete"); });
        svg.append(handle);
      }
    });
    svg.addEventListener("click", (event) => event.stopPropagation());
    return svg;
  }

  // A polygon that is being drawn, of a new instance or of an unknown region.
  startDraft(kind) {
    if (this.draft) { this.endDraft(); return; }
    if (!this.writer || (kind === "unknown" && !about.unknown)) return;
    const [height, width] = picture.size;
    this.draft = { kind, points: [], cursor: [Math.round(width / 2), Math.round(height / 2)], closed: false };
    this.problem = "";
    this.newName.value = about.names.length === 1 ? about.names[0] : "";
    document.activeElement?.blur();
    if (state.view === "exploded") setView("instances"); else this.show();
  }

  endDraft() {
    this.draft = null;
    this.problem = "";
    this.show();
    this.focus();
  }

  // Points, the side to the cursor, and the first point, which closes the polygon.
  draftSheet() {
    const { svg, scale, at } = overlay("points draft"), { points, cursor, closed } = this.draft, [x, y] = cursor;
    const line = drawn(closed ? "polygon" : "polyline", { points: [...points, ...(closed ? [] : [cursor])].join(" ") });
    const cross = drawn("path", { class: "cross", d: `M${x - 9 * scale} ${y}h${18 * scale}M${x} ${y - 9 * scale}v${18 * scale}` });
    svg.append(line, ...points.map(([cx, cy], k) => drawn("circle", { cx, cy, r: (k ? 4.5 : 7) * scale, class: k ? "" : "chosen" })), ...(closed ? [] : [cross]));
    svg.addEventListener("pointermove", (event) => {
      if (this.draft && !closed) line.setAttribute("points", [...points, at(event)].join(" "));
    });
    svg.addEventListener("click", (event) => {
      event.stopPropagation();
      if (!this.draft || closed) return;
      this.draft.cursor = at(event);
      if (points.length > 2 && event.target === svg.querySelector("circle")) this.close();
      else this.addPoint();
    });
    return svg;
  }

  addPoint() {
    const { points, cursor } = this.draft, last = points[points.length - 1];
    if (String(last) !== String(cursor)) points.push([...cursor]);
    this.problem = "";
    this.tell();
    this.outline();
  }

  close() {
    if (this.draft.points.length < 3) { this.problem = "An outline has three or more points."; this.tell(); return; }
    this.problem = "";
    this.draft.closed = true;
    this.show();
    if (this.draft.kind === "draw") this.newName.focus(); else this.add();
  }

  // Sends what was drawn, a new instance in front of all; it stays a draft if the server refuses it.
  async add() {
    const { draft } = this, { kind, points } = draft, { revision, positions } = this.now, known = new Set(positions);
    if (draft.sent) return;
    draft.sent = true;
    await this.send((image) => ({ do: kind, polygons: [points.flat()], ...(kind === "draw" ? { name: this.newName.value.trim(), before: image.positions[image.stack[0]] ?? null } : {}) }));
    draft.sent = false;
    if (this.draft !== draft) return;
    if (this.now.revision === revision) { draft.closed = kind === "draw"; this.outline(); return; }
    this.endDraft();
    const n = this.now.positions.findIndex((position) => !known.has(position));
    if (n >= 0) this.pick([n]);
  }

  // What keys do while a polygon is drawn; true = taken, as are all but those of the views.
  draftKey(event) {
    const far = event.shiftKey ? 10 : 1, move = { ArrowLeft: [-far, 0], ArrowRight: [far, 0], ArrowUp: [0, -far], ArrowDown: [0, far] }[event.key];
    const { points, cursor, closed } = this.draft, name = event.key.toLowerCase(), [height, width] = picture.size;
    if (event.key === "Escape" || name === "n" || name === "u") this.endDraft();
    else if (/^[1-7]$/.test(name)) return false;
    else if (closed) return true;
    else if (move) { this.draft.cursor = cursor.map((x, k) => Math.max(0, Math.min([width, height][k], x + move[k]))); this.outline(); }
    else if (event.key === "Insert") this.addPoint();
    else if (event.key === "Enter" && !event.target.matches("button")) this.close();
    else if (event.key === "Backspace" || (name === "z" && (event.ctrlKey || event.metaKey))) { points.pop(); this.outline(); }
    else return true;
    event.preventDefault();
    return true;
  }

  // What keys do to the chosen point: next, previous, move, insert, delete; false = there is no outline.
  changePoint(what, dx = 0, dy = 0) {
    const n = this.chosen, shown = n !== null && this.shownOutline(n);
    if (!shown) return false;
    const polygons = shown.map((polygon) => [...polygon]), all = polygons.flatMap((polygon, k) => polygon.slice(polygon.length / 2).map((_, at) => [k, at]));
    const [k, at] = this.point ?? [0, 0], current = all.findIndex((point) => point[0] === k && point[1] === at), polygon = polygons[k];
    if (what === "next" || what === "previous") {
      this.point = this.point ? all[(current + (what === "next" ? 1 : all.length - 1)) % all.length] : all[0];
      this.outline();
      return true;
    }
    if (!this.point || !polygon || current < 0) return what !== "move";
    const after = (2 * at + 2) % polygon.length;
    if (what === "move") { polygon[2 * at] += dx; polygon[2 * at + 1] += dy; }
    else if (what === "insert") { polygon.splice(2 * at + 2, 0, (polygon[2 * at] + polygon[after]) / 2, (polygon[2 * at + 1] + polygon[after + 1]) / 2); this.point = [k, at + 1]; }
    else if (polygon.length > 6) { polygon.splice(2 * at, 2); this.point = [k, Math.max(0, at - 1)]; }
    else return true;
    if (!this.proposal) this.now.outlines[n] = polygons; // the next key goes on from here
    this.setOutline(n, polygons);
    return true;
  }

  drag(event, n) {
    event.preventDefault();
    this.choose(n);
    const rows = [...this.stack.children], own = rows.find((row) => Number(row.dataset.n) === n), grip = event.target;
    let place = null;
    grip.setPointerCapture(event.pointerId);
    own.classList.add("dragged");
    const move = ({ clientY }) => {
      const at = rows.findIndex((row) => { const box = row.getBoundingClientRect(); return clientY < box.top + box.height / 2; });
      place = at < 0 ? rows.length : at;
      rows.forEach((row, k) => { row.classList.toggle("target", k === place); row.classList.toggle("after", place === rows.length && k === rows.length - 1); });
    };
    const end = (drop) => {
      grip.removeEventListener("pointermove", move);
      for (const row of rows) row.classList.remove("target", "after", "dragged");
      const at = rows.indexOf(own);
      if (!drop || place === null || place === at || place === at + 1) return;
      const before = rows[place] && Number(rows[place].dataset.n);
      this.send((image) => {
        const last = image.stack.indexOf(Number(rows[rows.length - 1].dataset.n)), behind = before ?? image.stack[last + 1];
        return { do: "move", instance: image.positions[n], before: behind === undefined ? null : image.positions[behind] };
      });
    };
    grip.addEventListener("pointermove", move);
    grip.addEventListener("pointerup", () => end(true), { once: true });
    grip.addEventListener("pointercancel", () => end(false), { once: true });
  }

  // Keys with Ctrl or Alt; true = taken.
  shortcut(event) {
    if (screen !== "image" || !picture || event.target.matches("input:not([type=range]), select")) return false;
    if (this.draft) return this.draftKey(event);
    if (this.proposal && (event.key === "Enter" || event.key === "Escape") && !event.target.matches("button")) { this.endProposal(event.key === "Enter"); event.preventDefault(); return true; }
    const name = event.key.toLowerCase(), command = event.ctrlKey || event.metaKey;
    const does = command && name === "z" ? () => this.walk(event.shiftKey ? "redo" : "undo")
      : command && name === "y" ? () => this.walk("redo")
      : event.altKey && !command && this.chosen !== null && (name === "arrowup" || name === "arrowdown") ? () => this.step(this.chosen, name === "arrowup") : null;
    if (!does) return false;
    does();
    event.preventDefault();
    return true;
  }

  // Keys without; true = taken.
  key(event) {
    if (screen !== "image" || !picture) return false;
    const step = { "]": [true], "[": [false], "}": [true, true], "{": [false, true] }[event.key];
    const far = event.shiftKey ? 10 : 1, move = { ArrowLeft: [-far, 0], ArrowRight: [far, 0], ArrowUp: [0, -far], ArrowDown: [0, far] }[event.key];
    const named = { ",": "previous", ".": "next", Insert: "insert", Backspace: "delete" }[event.key], change = move ? this.point && ["move", ...move] : named && [named];
    if (change && event.target.type !== "range" && this.changePoint(...change)) { event.preventDefault(); return true; }
    const plain = { o: () => { if (!this.bend.disabled) this.toggleOutline(); }, Delete: () => this.delete(), d: () => this.finish(), x: () => this.swap(), p: () => this.propose(), n: () => this.startDraft("draw"), u: () => this.startDraft("unknown"), F2: () => { if (this.chosen !== null) this.name.select(); } }[event.key];
    if (plain) { plain(); event.preventDefault(); return true; }
    if (step && this.chosen !== null) { this.step(this.chosen, ...step); event.preventDefault(); return true; }
    if ((event.key === "ArrowUp" || event.key === "ArrowDown") && event.target.type !== "range") {
      const up = event.key === "ArrowUp", more = event.shiftKey && this.chosen !== null, numberOf = (row) => Number(row.dataset.n);
      const rows = [...this.box.querySelectorAll("li")].filter((row) => row.checkVisibility());
      const from = rows.findIndex((row) => numberOf(row) === (more ? this.second ?? this.chosen : this.chosen)), ahead = up ? rows.slice(0, Math.max(0, from)).reverse() : rows.slice(from + 1);
      const next = ahead.find((row) => !more || numberOf(row) !== this.chosen);
      if (next) { this.choose(Number(next.dataset.n), event.shiftKey); this.focus(); event.preventDefault(); }
      return true;
    }
    return false;
  }
}

const DRAFT = {
  draw: "Click the corners of the whole object, hidden parts too. Click the first one again, or press Enter, to close the outline.",
  unknown: "Click the corners of the region where objects are not annotated. Click the first one again, or press Enter, to close it.",
  closed: "Name the new instance and press Enter.",
};

const PAUSE = 150; // Milliseconds between two levels while a point is dragged

// Level codes as the order alone gives them, by instance and region: 1 more than the instances in front.
function codesOf(stack, table) {
  const count = new Uint8Array(table[0]?.length ?? 0), codes = table.map((row) => row.slice());
  for (const n of stack) codes[n] = table[n].map((code, region) => (code ? ++count[region] : 0));
  return codes;
}

function drawn(kind, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

// A pattern that fills a proposed outline.
function stripes(scale) {
  const side = 8 * scale, pattern = drawn("pattern", { id: "stripes", width: side, height: side, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
  pattern.append(drawn("rect", { width: side / 2, height: side, fill: "#ffd34d" }));
  return pattern;
}

// A sheet over the picture, in its pixels: the pixels to one of the screen, and where an event is.
function overlay(name) {
  const [height, width] = picture.size, svg = drawn("svg", { class: name, viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none" });
  const scale = width / document.querySelector("#stage .sheet canvas").getBoundingClientRect().width;
  const at = (event) => {
    const box = svg.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width * width, (event.clientY - box.top) / box.height * height].map((x) => Math.round(100 * x) / 100);
  };
  return { svg, scale, at };
}

// The side of a polygon that is nearest to a point: the place of its first corner.
function nearestSide(polygon, [x, y]) {
  const count = polygon.length / 2;
  let best = 0, least = Infinity;
  for (let at = 0; at < count; at++) {
    const next = (at + 1) % count, [ax, ay, bx, by] = [polygon[2 * at], polygon[2 * at + 1], polygon[2 * next], polygon[2 * next + 1]];
    const length = (bx - ax) ** 2 + (by - ay) ** 2, t = length ? Math.max(0, Math.min(1, ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length)) : 0;
    const far = (ax + t * (bx - ax) - x) ** 2 + (ay + t * (by - ay) - y) ** 2;
    if (far < least) { least = far; best = at; }
  }
  return best;
}

VIEWS[1][2] = VIEWS[1][2].replace("isolate it", "select it, again to select the one behind it");
startEditor = () => {
  editor = new Editor();
  readImage = (position) => editor.read(position);
};
