// The list of images: search, sort, a hundred at a time.

const PAGE = 100;

class List {
  constructor(images, open) {
    this.images = images.map((one, position) => ({ ...one, position }));
    this.open = open;
    this.limit = PAGE;
    this.buttons = new Map();
    this.search = document.getElementById("search");
    this.sort = document.getElementById("sort");
    if (images.every((one) => one.errors === null)) this.sort.querySelector("[value=errors]").remove();
    this.sort.value = images.some((one) => one.errors !== null) ? "errors" : "hidden";
    this.search.addEventListener("input", () => { this.limit = PAGE; this.fill(); });
    this.sort.addEventListener("change", () => { this.limit = PAGE; this.fill(); });
    document.getElementById("more").addEventListener("click", () => { this.limit += PAGE; this.fill(); });
    this.fill();
  }

  // The images that match, in order.
  found() {
    const wanted = this.search.value.trim().toLowerCase(), key = this.sort.value;
    const matching = this.images.filter((one) => one.name.toLowerCase().includes(wanted) || String(one.id) === wanted);
    return key === "file" ? matching : matching.sort((one, other) => other[key] - one[key] || one.position - other.position);
  }

  fill() {
    const found = this.found(), place = document.getElementById("images");
    place.replaceChildren();
    this.buttons.clear();
    for (const one of found.slice(0, this.limit)) {
      const figures = `${plural(one.instances, "instance")}, ${percent(one.share)} hidden` + (one.errors === null ? "" : `, ${plural(one.errors, "error")}`);
      const button = element("button", { type: "button" }, element("span", { textContent: one.name, title: one.name }), element("small", { textContent: figures }));
      button.addEventListener("click", () => this.open(one.position));
      this.buttons.set(one.position, button);
      place.append(element("li", {}, button));
    }
    document.getElementById("count").textContent = `${found.length} of ${plural(this.images.length, "image")}`;
    document.getElementById("more").hidden = found.length <= this.limit;
    this.mark(this.current);
  }

  mark(position) {
    this.current = position;
    for (const [at, button] of this.buttons) button.setAttribute("aria-current", String(at === position));
    const button = this.buttons.get(position);
    if (button) button.parentElement.parentElement.scrollTop = Math.max(0, button.parentElement.offsetTop - button.parentElement.parentElement.offsetTop - 80);
  }

  // The image `step` places further in the list.
  neighbour(step) {
    const found = this.found(), at = found.findIndex((one) => one.position === this.current);
    return found.length ? found[Math.min(found.length - 1, Math.max(0, at + step))].position : this.current;
  }
}
