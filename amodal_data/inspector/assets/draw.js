// Views: each fills an ImageData of the picture's size. Photos are dimmed under maps; outside is never coloured.

const RIM = [70, 70, 78];
let COLOURS = null;

const colourOf = (hue) => COLOURS.identity[hue];

// The colour of an instance; what stands for a true one has its colour.
const identity = (layers, n) => colourOf(layers.hues[n]);

// Of level codes or counts, from 1: the deepest colour stands for all beyond.
const bandColour = (code) => COLOURS.bands[Math.min(code, COLOURS.bands.length) - 1];

// Of M = C - L: the colour of level L, greyer where the confidence C is low.
function semDistColour(m) {
  const level = Math.max(0, Math.floor(1 - m)), grey = COLOURS.faded * Math.min(1, 2 * (1 - (m + level)));
  return COLOURS.bands[Math.min(level, COLOURS.bands.length - 1)].map((value) => (1 - grey) * value + grey * COLOURS.unsure);
}

class Drawing {
  constructor(picture, layers) {
    this.picture = picture;
    this.layers = layers;
    this.width = picture.shown[1];
    this.height = picture.shown[0];
    this.image = new ImageData(this.width, this.height);
    this.pixels = this.image.data;
    this.pixels.set(picture.photo);
  }

  dim() {
    const { picture, pixels: data } = this;
    if (!picture.dimmed) {
      for (let p = 0; p < data.length; p += 4) {
        const grey = (data[p] + data[p + 1] + data[p + 2]) / 3;
        for (let c = 0; c < 3; c++) data[p + c] = 255 - 0.45 * (255 - (0.75 * grey + 0.25 * data[p + c]));
      }
      picture.dimmed = data.slice();
    }
    data.set(picture.dimmed);
    return this;
  }

  clear() { this.pixels.fill(0); return this; }

  blend(p, colour, strength, shade = 1) {
    const { pixels } = this, at = 4 * p, keep = 1 - strength;
    pixels[at] = keep * pixels[at] + strength * colour[0] * shade;
    pixels[at + 1] = keep * pixels[at + 1] + strength * colour[1] * shade;
    pixels[at + 2] = keep * pixels[at + 2] + strength * colour[2] * shade;
    pixels[at + 3] = 255;
  }

  // Calls `paint` at the pixels of a mask that have a neighbour outside it.
  outline(inside, colour, shade = 1) {
    const { width, height } = this;
    for (let y = 0, p = 0; y < height; y++)
      for (let x = 0; x < width; x++, p++)
        if (inside(p) && ((x && !inside(p - 1)) || (x < width - 1 && !inside(p + 1)) || (y && !inside(p - width)) ||
          (y < height - 1 && !inside(p + width)))) this.blend(p, colour, 1, shade);
  }

  // X-ray: visible parts filled, parts hidden at up to `plane` striped on top in the hidden instance's colour.
  instances(chosen, plane = Infinity) {
    const { layers, width, height, pixels } = this, { regions, table } = layers, stacks = layers.stacks(chosen.filter((n) => n < table.length));
    const smooth = plane % 1 > 0, colours = layers.hues.map(colourOf); // the plane cuts regions in two where the confidence is known
    if (!smooth) for (const stack of stacks) stack.behind = stack.behind.filter((n) => table[n][stack.region] - 1 <= plane);
    const part = smooth ? (n, p, hidden) => { const code = layers.code(n, p); return code > 0 && code > 1 === hidden && reaches(layers, n, p, code, plane); }
      : (n, p, hidden) => { const code = table[n][regions[p]]; return code > 0 && code > 1 === hidden && code - 1 <= plane; };
    const rim = (n, p, x, y, hidden) => (x > 0 && !part(n, p - 1, hidden)) || (x < width - 1 && !part(n, p + 1, hidden)) ||
      (y > 0 && !part(n, p - width, hidden)) || (y < height - 1 && !part(n, p + width, hidden));
    const striped = (n, place) => (place + 3 * layers.hues[n]) % 8 < 3, fills = smooth ? null : this.fills(stacks, striped);
    for (let y = 0, p = 0; y < height; y++)
      for (let x = 0; x < width; x++, p++) {
        const region = regions[p], { seen, behind } = stacks[region];
        if (!seen.length && !behind.length) continue;
        const inner = !smooth && (!x || regions[p - 1] === region) && (x === width - 1 || regions[p + 1] === region) &&
          (!y || regions[p - width] === region) && (y === height - 1 || regions[p + width] === region);
        if (fills) {
          const at = 4 * p, from = 4 * (8 * region + (x + y) % 8), keep = fills[from];
          for (let c = 0; c < 3; c++) pixels[at + c] = keep * pixels[at + c] + fills[from + 1 + c];
          if (inner) continue;
        } else for (const n of seen) if (part(n, p, false)) this.blend(p, colours[n], 0.62);
        for (const n of behind) {
          if (smooth && !part(n, p, true)) continue;
          if (smooth && striped(n, x + y)) this.blend(p, colours[n], 0.9, 0.8);
          if (rim(n, p, x, y, true)) this.blend(p, colours[n], 1, 0.62);
        }
        for (const n of seen) if (part(n, p, false) && rim(n, p, x, y, false)) this.blend(p, colours[n], 1, 0.5);
      }
    return this;
  }

  // What becomes of a pixel inside a region, for each of eight places in the stripes: the share of it that is kept, and
  // the colour that is added.
  fills(stacks, striped) {
    const fills = new Float32Array(32 * stacks.length), { hues } = this.layers;
    stacks.forEach(({ seen, behind }, region) => {
      for (let place = 0; place < 8; place++) {
        const fill = fills.subarray(4 * (8 * region + place), 4 * (8 * region + place + 1));
        fill[0] = 1;
        const blend = (n, strength, shade) => {
          const colour = colourOf(hues[n]);
          fill[0] *= 1 - strength;
          for (let c = 0; c < 3; c++) fill[1 + c] = (1 - strength) * fill[1 + c] + strength * colour[c] * shade;
        };
        for (const n of seen) blend(n, 0.62, 1);
        for (const n of behind) if (striped(n, place)) blend(n, 0.9, 0.8);
      }
    });
    return fills;
  }

  // Pixels of objects that are not among the instances: gray, striped the other way.
  unknown() {
    const { layers, width } = this;
    for (let p = 0; layers.unknown.size && p < layers.regions.length; p++)
      if (layers.unknown.has(layers.regions[p]) && (p % width + 7 * Math.floor(p / width)) % 8 < 3) this.blend(p, RIM, 0.7);
    return this;
  }

  // Global layers: how many of the chosen instances lie over each pixel at levels up to the plane.
  count(chosen, plane) {
    const { layers } = this;
    for (let p = 0; p < layers.regions.length; p++) {
      let count = 0;
      for (const n of chosen) { const code = layers.code(n, p); if (code && reaches(layers, n, p, code, plane)) count++; }
      if (count) this.blend(p, bandColour(count), 1);
    }
    return this;
  }

  levels(n, plane) {
    const { layers } = this;
    for (let p = 0; p < layers.regions.length; p++) {
      const code = layers.code(n, p);
      if (code && reaches(layers, n, p, code, plane)) this.blend(p, bandColour(code), 1);
    }
    this.outline((p) => layers.code(n, p) > 0, RIM);
    return this;
  }

  semDist(n, plane) {
    const { layers } = this;
    for (let p = 0; p < layers.regions.length; p++) {
      const code = layers.code(n, p);
      if (code && reaches(layers, n, p, code, plane)) this.blend(p, semDistColour(layers.confidence(n, p) - (code - 1)), 1);
    }
    this.outline((p) => layers.code(n, p) > 0, RIM);
    return this;
  }

  // Eq. 4-5 on the overlap: A's colour where A is closer, B's where B is.
  relative(a, b) {
    const { layers } = this, depth = layers.relativeDepth(a, b);
    for (const n of [a, b]) for (let p = 0; p < depth.length; p++) if (layers.code(n, p) && !depth[p]) this.blend(p, identity(layers, n), 0.25);
    for (let p = 0; p < depth.length; p++) if (depth[p]) this.blend(p, identity(layers, depth[p] > 0 ? a : b), 0.95);
    for (const n of [a, b]) this.outline((p) => layers.code(n, p) > 0, identity(layers, n), 0.5);
    return layers.order(a, b);
  }

  // One layer of the exploded view: what the chosen instances show at one level, on nothing.
  layer(chosen, level) {
    this.clear();
    const { layers } = this;
    for (const n of chosen) {
      for (let p = 0; p < layers.regions.length; p++) if (layers.code(n, p) === level + 1) this.blend(p, identity(layers, n), 1);
      this.outline((p) => layers.code(n, p) === level + 1, identity(layers, n), 0.5);
    }
    return this;
  }
}

// Has the plane fallen to this pixel? At plane l all levels up to l show; between l and l + 1 those pixels of level
// l + 1 whose confidence is known and above a threshold that falls from 1 to .5.
function reaches(layers, n, p, code, plane) {
  const level = code - 1, whole = Math.floor(plane), rest = plane - whole;
  if (plane === Infinity || level <= whole) return true;
  return level === whole + 1 && rest > 0 && Boolean(layers.instances[n].confidence) && layers.confidence(n, p) >= 1 - 0.5 * rest;
}

// The most interior pixel of each instance where it is visible, if possible over nothing else, for its label.
function labelPlaces(layers, chosen) {
  const { width, height, regions, table } = layers, places = [], over = new Uint16Array(table[0]?.length ?? 0);
  for (const row of table) row.forEach((code, region) => { if (code) over[region]++; });
  for (const n of chosen) {
    const [left, top, right, bottom] = layers.window(n), wide = right - left, far = new Uint16Array(Math.max(0, wide * (bottom - top)));
    const row = table[n], plain = over.some((count, region) => count === 1 && row[region] === 1);
    const fit = row.map((code, region) => code === 1 && (!plain || over[region] === 1));
    let best = -1, most = 0;
    for (let y = top, p = 0; y < bottom; y++)
      for (let x = left; x < right; x++, p++)
        if (fit[regions[y * width + x]]) far[p] = 1 + Math.min(x > left ? far[p - 1] : 0, y > top ? far[p - wide] : 0);
    for (let y = bottom - 1; y >= top; y--)
      for (let x = right - 1; x >= left; x--) {
        const p = (y - top) * wide + x - left;
        if (!far[p]) continue;
        far[p] = Math.min(far[p], 1 + Math.min(x < right - 1 ? far[p + 1] : 0, y < bottom - 1 ? far[p + wide] : 0));
        if (far[p] > most) { most = far[p]; best = y * width + x; }
      }
    if (best >= 0) places.push({ n, x: (best % width + 0.5) / width, y: (Math.floor(best / width) + 0.5) / height });
  }
  return places;
}
