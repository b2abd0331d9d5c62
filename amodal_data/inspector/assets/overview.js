// What the page begins with: a grid of thumbnails, and the list of findings. A hundred entries at a time.

const PAGE = 100;

// A name on one line: where it is too long, its middle gives way to an ellipsis.
function cutName(name) {
  const tail = Math.min(9, Math.floor(name.length / 2));
  return element("span", { className: "cut", title: name },
    element("span", { textContent: name.slice(0, name.length - tail) }), element("span", { textContent: name.slice(name.length - tail) }));
}

const imageFigures = (image) => plural(image.instances, "instance") + (image.layered ? `, ${percent(image.share)} hidden` : "") + (image.errors === null ? "" : `, ${plural(image.errors, "error")}`) + (image.edits ? `, ${plural(image.edits, "edit")}` : "") + (image.done ? ", done" : "");

class Overview {
  constructor(filters, codes, open) {
    Object.assign(this, { filters, codes, open, limit: PAGE, current: -1 });
    for (const name of ["more", "more-cards"]) document.getElementById(name).addEventListener("click", () => { this.limit += PAGE; this.fill(); });
    document.getElementById("grid").addEventListener("keydown", (event) => this.move(event));
  }

  fill() {
    const images = this.filters.matching(), shown = images.slice(0, this.limit);
    document.getElementById("images").replaceChildren(...shown.map((image) => this.row(image)));
    document.getElementById("grid").replaceChildren(...shown.map((image) => this.card(image)));
    const findings = this.fillFindings(images);
    document.getElementById("count").textContent = `${images.length} of ${plural(this.filters.images.length, "image")}`;
    document.getElementById("clear").hidden = !this.filters.active;
    document.getElementById("none").hidden = images.length > 0;
    document.getElementById("more").hidden = images.length <= this.limit;
    document.getElementById("more-cards").hidden = Math.max(images.length, findings) <= this.limit;
    this.mark(this.current);
  }

  row(image) {
    const button = element("button", { type: "button" }, element("span", { textContent: image.name, title: image.name }), element("small", { textContent: imageFigures(image) }));
    button.dataset.position = image.position;
    button.addEventListener("click", () => this.open(image.position));
    return element("li", {}, button);
  }

  card(image) {
    const findings = image.findings.length ? plural(image.findings.length, "finding") : "";
    const button = element("button", { type: "button" },
      element("img", { src: image.thumbnail, alt: "", decoding: "async", loading: "lazy" }), cutName(image.name), element("small", { textContent: imageFigures(image) }));
    if (findings) button.append(element("small", { className: "flag", textContent: findings }));
    button.setAttribute("aria-label", [image.name, imageFigures(image), findings].filter(Boolean).join(", "));
    button.addEventListener("click", () => this.open(image.position));
    return element("li", {}, button);
  }

  // Findings of the images that match, errors first, with what they mean over each code; returns their number.
  fillFindings(images) {
    const ranks = ["error", "warning", "info"], wanted = this.filters.values.finding;
    const all = images.flatMap((image) => image.findings.map(([code, text, instance]) => ({ code, text, instance, image })));
    const findings = all.filter((finding) => !wanted || finding.code === wanted);
    const rank = (finding) => ranks.indexOf(this.codes[finding.code].severity);
    findings.sort((first, second) => rank(first) - rank(second) || (first.code < second.code ? -1 : first.code > second.code ? 1 : 0));
    const place = document.getElementById("all-findings");
    place.replaceChildren();
    for (const [at, finding] of findings.slice(0, this.limit).entries()) {
      if (!at || findings[at - 1].code !== finding.code) place.append(this.heading(finding.code, findings));
      const where = finding.instance === null ? "" : `, instance ${finding.instance}`;
      const button = element("button", { type: "button" }, element("span", { textContent: finding.image.name + where }), element("small", { textContent: finding.text }));
      button.addEventListener("click", () => this.open(finding.image.position, finding.instance));
      place.append(element("li", {}, button));
    }
    const listed = plural(findings.length, "finding"), total = about.facts.findings ?? findings.length;
    document.getElementById("finding-count").textContent = findings.length ? listed : "No findings.";
    if (!this.filters.active && total > findings.length) document.getElementById("finding-count").textContent = `${listed} of ${total}: the others are not about an image of this page.`;
    return findings.length;
  }

  heading(code, findings) {
    const { severity, meaning, action, remedy } = this.codes[code], count = findings.filter((finding) => finding.code === code).length;
    return element("li", { className: `heading ${severity}` }, element("strong", { textContent: `${severity} ${code} (${count})` }),
      element("p", { textContent: `${meaning} Here: ${action}. ${remedy}` }));
  }

  // Arrow keys go from thumbnail to thumbnail.
  move(event) {
    const cards = [...document.querySelectorAll("#grid button")], at = cards.indexOf(document.activeElement);
    const columns = cards.filter((card) => card.offsetTop === cards[0].offsetTop).length;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
    if (at < 0 || !step) return;
    event.preventDefault();
    cards[Math.max(0, Math.min(cards.length - 1, at + step))].focus();
  }

  mark(position) {
    this.current = position;
    for (const button of document.querySelectorAll("#images button")) button.setAttribute("aria-current", String(Number(button.dataset.position) === position));
    const button = document.querySelector('#images [aria-current="true"]'), list = document.getElementById("images");
    if (button) list.scrollTop = Math.max(0, button.parentElement.offsetTop - list.offsetTop - 80);
  }

  // The image `step` places further in the list.
  neighbour(step) {
    const images = this.filters.matching(), at = images.findIndex((image) => image.position === this.current);
    return images.length ? images[Math.min(images.length - 1, Math.max(0, at + step))].position : this.current;
  }
}
