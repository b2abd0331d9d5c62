"use strict";
// What is in the page: JSON blocks, and regions packed as base64 of LEB128 numbers.

function block(name) { return JSON.parse(document.getElementById(name).textContent); }

// Where an image comes from, and the editor of a page that has one; the editing page replaces them.
let startEditor = () => {};
let readImage = async (position) => block(`image-${position}`);
let editor = null;

function bytesOf(text) {
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

function unpackRuns(text, values) {
  const bytes = bytesOf(text);
  let at = 0, place = 0;
  function number() {
    let value = 0, shift = 1, byte;
    do { byte = bytes[at++]; value += (byte & 127) * shift; shift *= 128; } while (byte & 128);
    return value;
  }
  while (at < bytes.length) {
    const value = number(), length = number();
    values.fill(value, place, place + length);
    place += length;
  }
  return values;
}

// One set of instances on an image: truth or predictions. table[n][region] is a level code.
class Layers {
  // before: the layers until now; an edit of the order leaves their regions as they are.
  constructor(document, shown, size, kind, before = null) {
    this.height = shown[0];
    this.width = shown[1];
    this.scale = shown[1] / size[1];
    this.kind = kind;
    this.hues = document.hues;
    this.instances = document.instances;
    const codes = unpackRuns(document.table, new Uint8Array(document.regions * this.instances.length));
    this.table = this.instances.map((_, n) => codes.subarray(n * document.regions, (n + 1) * document.regions));
    this.pairs = document.pairs;
    this.unknown = new Set(document.unknown);
    this.leftOut = document.left_out || 0;
    this.mostHidden = document.most_hidden ?? -1;
    this.runs = document.runs;
    const same = before?.runs === document.runs;
    this.regions = same ? before.regions : unpackRuns(document.runs, new Uint16Array(shown[0] * shown[1]));
    this.boxes = same ? before.boxes : undefined;
    this.deepest = Math.max(0, ...this.instances.map((one) => one.levels.findLastIndex((n) => n > 0)));
    this.confidences = new Map();
  }

  code(n, pixel) { return this.table[n][this.regions[pixel]]; }

  // Of some instances, by region, those that are visible and those that are hidden there.
  stacks(chosen) {
    const made = Array.from({ length: Math.max(this.table[0]?.length || 0, this.spans.length) }, (_, region) => ({ region, seen: [], behind: [] }));
    for (const n of chosen) this.table[n].forEach((code, region) => { if (code) (code === 1 ? made[region].seen : made[region].behind).push(n); });
    return made;
  }

  // The box of every region: left, top, right, bottom in pixels, half-open.
  get spans() {
    if (this.boxes) return this.boxes;
    this.boxes = [];
    for (let y = 0, p = 0; y < this.height; y++)
      for (let x = 0; x < this.width; x++, p++) {
        const box = (this.boxes[this.regions[p]] ??= [x, y, x + 1, y + 1]);
        if (x < box[0]) box[0] = x; else if (x >= box[2]) box[2] = x + 1;
        box[3] = y + 1;
      }
    return this.boxes;
  }

  // The box of an instance; right is left of left for one without a pixel.
  window(n) {
    return this.spans.reduce((all, box, region) => (this.table[n][region] ?
      [Math.min(all[0], box[0]), Math.min(all[1], box[1]), Math.max(all[2], box[2]), Math.max(all[3], box[3])] : all), [this.width, this.height, 0, 0]);
  }

  label(n) {
    const name = this.instances[n].name;
    return name ? `${n} ${name}` : `instance ${n}`;
  }

  // Confidence at a pixel: pasted from the box's grid where it is known, else 1 inside.
  confidence(n, pixel) {
    const one = this.instances[n];
    if (!one.confidence) return this.code(n, pixel) ? 255 / 256 : 0;
    if (!this.confidences.has(n)) this.confidences.set(n, bytesOf(one.confidence));
    const grid = this.confidences.get(n), side = Math.round(Math.sqrt(grid.length));
    const [x0, y0, x1, y1] = one.box;
    const x = (((pixel % this.width) + 0.5) / this.scale - x0) / Math.max(x1 - x0, 1e-6) * side - 0.5;
    const y = ((Math.floor(pixel / this.width) + 0.5) / this.scale - y0) / Math.max(y1 - y0, 1e-6) * side - 0.5;
    if (x < -0.5 || y < -0.5 || x > side - 0.5 || y > side - 0.5) return 0;
    const cx = Math.min(Math.max(x, 0), side - 1), cy = Math.min(Math.max(y, 0), side - 1);
    const i = Math.min(Math.floor(cy), side - 2), j = Math.min(Math.floor(cx), side - 2), v = cy - i, u = cx - j;
    const top = grid[i * side + j] * (1 - u) + grid[i * side + j + 1] * u;
    const low = grid[(i + 1) * side + j] * (1 - u) + grid[(i + 1) * side + j + 1] * u;
    return Math.min((top * (1 - v) + low * v) / 255, 255 / 256);
  }

  // Of some instances those at a pixel, nearest first.
  stack(pixel, chosen) {
    const found = [];
    for (const n of chosen) {
      const code = this.code(n, pixel);
      if (code) found.push({ n, level: code - 1, confidence: this.confidence(n, pixel) });
    }
    return found.sort((a, b) => a.level - b.level);
  }

  // Where both instances are: who is closer, the larger region deciding (Eq. 4-5).
  relativeDepth(a, b) {
    const depth = new Int8Array(this.regions.length);
    for (let p = 0; p < depth.length; p++) {
      const one = this.code(a, p), other = this.code(b, p);
      if (one && other) depth[p] = Math.max(-127, Math.min(127, other - one));
    }
    return depth;
  }

  // Which of two is in front, as Python decided it (instance_order; the ground truth has its own): 1 = a, -1 = b.
  order(a, b) {
    const listed = ([front, back]) => this.pairs.some((pair) => pair[0] === front && pair[1] === back);
    return listed([a, b]) ? 1 : listed([b, a]) ? -1 : 0;
  }
}

// One image, unpacked when first looked at.
class Picture {
  constructor(position, own) {
    Object.assign(this, { position, id: own.id, size: own.size, shown: own.shown, findings: about.images[position].findings, errors: own.errors });
    this.problem = own.photo_problem;
    this.matches = own.matches;
    this.source = own.photo;
    this.photo = null;
    this.setLayers(own);
  }

  setLayers(own) {
    this.truth = own.truth && new Layers(own.truth, own.shown, own.size, "truth", this.truth);
    this.predicted = own.predicted && new Layers(own.predicted, own.shown, own.size, "predicted", this.predicted);
    this.layers = [this.truth, this.predicted].filter(Boolean);
    this.deepest = Math.max(...this.layers.map((one) => one.deepest));
  }

  // The instance of one side that stands for instance n of the other; null = none does.
  counterpart(kind, n) {
    if (!this.matches || n === null) return null;
    if (kind === "predicted") return this.matches[n] ?? null;
    const found = this.matches.indexOf(n);
    return found < 0 ? null : found;
  }

  // RGB of the photo, grey without one.
  async load() {
    if (this.photo) return;
    const [height, width] = this.shown, canvas = new OffscreenCanvas(width, height);
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    pen.fillStyle = "#cdcdcd";
    pen.fillRect(0, 0, width, height);
    if (this.source) {
      const image = new Image();
      image.src = this.source;
      await image.decode();
      pen.drawImage(image, 0, 0, width, height);
    }
    this.photo = pen.getImageData(0, 0, width, height).data;
  }
}
