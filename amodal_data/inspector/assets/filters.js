// The choice of images: search, class, hidden share, finding, order. It is part of the address.

const FILTERS = ["search", "class", "hidden", "finding", "sort"];

class Filters {
  constructor(images, rates, codes, changed) {
    this.images = images.map((image, position) => ({ ...image, position }));
    this.fields = Object.fromEntries(FILTERS.map((name) => [name, document.getElementById(name)]));
    const counts = {}, { sort } = this.fields;
    for (const image of images) for (const name of Object.keys(image.classes)) counts[name] = (counts[name] || 0) + 1;
    const names = Object.keys(counts).sort((first, second) => counts[second] - counts[first] || (first < second ? -1 : 1));
    this.offer("class", names.map((name) => [`=${name}`, `${name || "without a class"} (${counts[name]})`]));
    this.offer("hidden", rates.map((text, bin) => [String(bin), text]));
    this.offer("finding", Object.keys(codes).map((code) => [code, code]));
    if (images.every((image) => image.errors === null)) sort.querySelector("[value=errors]").remove();
    this.order = about.sort ?? (images.some((image) => image.errors !== null) ? "errors" : "hidden");
    sort.value = this.order;
    for (const field of Object.values(this.fields)) field.addEventListener("input", changed);
    document.getElementById("clear").addEventListener("click", () => { this.read(new URLSearchParams()); changed(); });
  }

  // Choices of a field behind its first one; a field without any is not shown.
  offer(name, choices) {
    this.fields[name].append(...choices.map(([value, text]) => new Option(text, value)));
    this.fields[name].parentElement.hidden = !choices.length;
  }

  get values() { return Object.fromEntries(FILTERS.map((name) => [name, this.fields[name].value])); }

  get active() { return FILTERS.some((name) => name !== "sort" && this.fields[name].value); }

  read(address) {
    for (const name of FILTERS) {
      this.fields[name].value = address.get(name) ?? (name === "sort" ? this.order : "");
      if (this.fields[name].selectedIndex === -1) this.fields[name].selectedIndex = 0;
    }
  }

  write(address) {
    for (const [name, value] of Object.entries(this.values)) if (value !== (name === "sort" ? this.order : "")) address.set(name, value);
  }

  // The images that match, in order. Class and hidden share must fit one instance.
  matching() {
    const { search, class: label, hidden, finding, sort } = this.values, text = search.trim().toLowerCase();
    const fits = (image) => Object.entries(image.classes).some(([name, bins]) =>
      (!label || label === `=${name}`) && (!hidden || bins & (1 << Number(hidden))));
    const images = this.images.filter((image) => (image.name.toLowerCase().includes(text) || String(image.id) === text) &&
      ((!label && !hidden) || fits(image)) && (!finding || image.findings.some(([code]) => code === finding)));
    const key = (image) => (image.done ? -1 : sort === "findings" ? image.findings.length : image[sort]);
    return sort === "file" ? images : images.sort((first, second) => key(second) - key(first) || first.position - second.position);
  }
}
