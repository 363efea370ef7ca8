// A model's card: its top classes or the detected objects, as bars.

import { percent } from "./view.js";

const TOP = 5;
const SURE = 0.5; // minimum score of an object
const NEW = 0.3; // weight of the newest frame: live bars are averaged so that they stay steady
const TIMES = 30; // frames of the median that is shown

export class Card {
  constructor(facts) {
    this.facts = facts;
    this.element = element("section", "card");
    this.element.setAttribute("aria-label", facts.label);
    const header = element("header");
    this.ms = element("span", "ms");
    header.append(element("h2", "", breakable(facts.label)), this.ms);
    this.bars = element("ul", "bars");
    this.element.append(header, this.bars);
    this.reset();
  }

  reset() {
    this.smooth = null;
    this.times = [];
    this.rows = [];
    this.ms.textContent = "";
    this.bars.replaceChildren();
  }

  /** Shows the result of `Model.look`; `live` averages it with those of earlier frames. */
  show({ probabilities, boxes, ms }, live) {
    this.times = [...this.times.slice(live ? 1 - TIMES : this.times.length), ms];
    this.ms.textContent = `${milliseconds(median(this.times))} ms`;
    this.rows = boxes ? this.objects(boxes) : this.classes(probabilities, live);
    this.rows.forEach((row, i) => this.fill(this.bars.children[i] ?? this.bars.appendChild(bar()), row));
    while (this.bars.children.length > Math.max(this.rows.length, 1)) this.bars.lastChild.remove();
    if (!this.rows.length) this.fill(this.bars.firstChild ?? this.bars.appendChild(bar()), { name: "nothing found", score: 0, number: "" });
  }

  classes(probabilities, live) {
    if (!live || !this.smooth) this.smooth = Float32Array.from(probabilities);
    else this.smooth.forEach((old, i) => { this.smooth[i] = old + NEW * (probabilities[i] - old); });
    const order = Array.from(this.smooth.keys()).sort((a, b) => this.smooth[b] - this.smooth[a] || a - b).slice(0, TOP);
    return order.map((label) => ({ name: this.name(label), score: this.smooth[label], label, number: percent(this.smooth[label]) }));
  }

  objects(boxes) {
    return this.sure(boxes).slice(0, TOP).map(({ label, score }) => ({ name: this.name(label), score, label, number: percent(score) }));
  }

  sure(boxes) {
    return boxes.filter(({ score }) => score >= SURE).map((box) => ({ ...box, name: this.name(box.label) }));
  }

  name(label) {
    return this.facts.classes[label] ?? `class ${label}`;
  }

  fill(item, { name, score, number }) {
    item.querySelector("bdi").textContent = name;
    item.querySelector(".number").textContent = number;
    item.querySelector(".fill").style.width = `${100 * score}%`;
  }

  get texts() {
    return this.rows.map(({ name, number }) => `${name}  ${number}`);
  }
}

function bar() {
  const item = element("li");
  const fill = element("span", "fill");
  fill.setAttribute("aria-hidden", "true");
  item.append(fill, element("bdi"), element("span", "number"));
  return item;
}

/** An element with text, which is never parsed as HTML. */
export function element(tag, kind = "", text = "") {
  return Object.assign(document.createElement(tag), { className: kind, textContent: text });
}

/** A file name that can wrap after underscores. */
export function breakable(name) {
  return name.replaceAll("_", "_\u200b");
}

export function milliseconds(value) {
  return value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0);
}

export function median(values) {
  return quantile(values, 0.5);
}

export function quantile(values, share) {
  const ordered = [...values].sort((a, b) => a - b), place = (ordered.length - 1) * share;
  const low = Math.floor(place), high = Math.ceil(place);
  return ordered[low] + (place - low) * (ordered[high] - ordered[low]);
}
