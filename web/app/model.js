// Runs a .tflite file in LiteRT.js: images in, probabilities or boxes out.

import { loadAndCompile, Tensor } from "@litertjs/core";
import { classifierView, detectorView } from "./geometry.js";
import { resample } from "./resample.js";

const GRAY = 127.5; // padding around the photo in a detector's input
const ROUNDING = 1e-3; // by which a probability may be below 0 or above 1
const ARRAYS = { float32: Float32Array, uint8: Uint8Array };

/** Loads a model; rejects with a message for the user. */
export async function open(facts, settings, accelerator) {
  let content;
  try {
    const answer = await fetch(facts.file);
    if (!answer.ok) throw new Error(`HTTP status ${answer.status}`);
    content = new Uint8Array(await answer.arrayBuffer());
  } catch (error) {
    throw new Error(`${facts.label} cannot be loaded: ${error.message}. Check that the whole folder was copied.`);
  }
  try {
    return new Model(facts, settings, await loadAndCompile(content, { accelerator }));
  } catch (error) {
    throw new Error(`${facts.label} cannot run in this browser: ${error.message}.`);
  }
}

class Model {
  constructor(facts, settings, compiled) {
    this.facts = facts;
    this.settings = settings;
    this.compiled = compiled;
    this.tables = inputTables(facts);
    const shape = [...compiled.getInputDetails()[0].shape];
    if (String(shape) !== String(facts.input.shape)) {
      throw new Error(`its input has shape ${shape}, but models.json has ${facts.input.shape}`);
    }
  }

  /** The network's input for an image, a typed array. */
  input(source) {
    return this.facts.kind === "detector" ? this.fitted(source) : this.cropped(source);
  }

  cropped(source) {
    const { middle, resized, crop } = classifierView([source.height, source.width], this.facts, this.settings.longest);
    return this.scaled(resample(part(source, middle), resized, crop, this.facts.input.shape[3]));
  }

  fitted(source) {
    const { resized } = detectorView([source.height, source.width], this.facts);
    const pixels = resample(source, resized, { left: 0, top: 0, ...resized }, 3);
    const width = this.facts.input.shape[2];
    const input = new Float32Array(size(this.facts.input.shape)).fill(GRAY);
    for (let y = 0; y < resized.height; y++) {
      input.set(pixels.subarray(y * resized.width * 3, (y + 1) * resized.width * 3), y * width * 3);
    }
    return input;
  }

  /** Normalizes and quantizes pixels, as the network needs them. */
  scaled(pixels) {
    if (!this.tables) return pixels;
    const input = new ARRAYS[this.facts.input.dtype](pixels.length);
    for (let i = 0; i < pixels.length; i++) input[i] = this.tables[i % this.tables.length][pixels[i]];
    return input;
  }

  /** Runs the network and frees all tensors: {outputs: [name, values] pairs, ms}. */
  async run(input) {
    const start = performance.now();
    const tensor = new Tensor(input, this.facts.input.shape);
    let found = [];
    try {
      found = await this.compiled.run([tensor]);
      const values = await Promise.all(found.map((output) => output.data()));
      const outputs = this.compiled.getOutputDetails().map(({ name }, i) => [name, values[i].slice()]);
      return { outputs, ms: performance.now() - start };
    } finally {
      tensor.delete();
      found.forEach((output) => output.delete());
    }
  }

  /** Classifies an image or detects objects: {probabilities, ms} or {boxes, ms}. */
  async look(source) {
    const { outputs, ms } = await this.run(this.input(source));
    if (this.facts.kind === "detector") return { boxes: this.boxes(outputs, source), ms };
    return { probabilities: probabilities(dequantized(outputs[0][1], this.facts.output), this.facts.head), ms };
  }

  boxes(outputs, source) {
    const { factors } = detectorView([source.height, source.width], this.facts);
    const found = detections(outputs);
    return Array.from({ length: found.count }, (_, i) => {
      const [x1, y1, x2, y2] = [0, 1, 2, 3].map((side) =>
        Math.min(Math.max(found.boxes[4 * i + side] / factors[side % 2], 0), side % 2 ? source.height : source.width));
      return { x: x1, y: y1, width: x2 - x1, height: y2 - y1, score: found.scores[i], label: found.labels[i] };
    });
  }

  /** Whether the accelerator runs the whole network. */
  get isWholeOnGpu() {
    return this.compiled.isFullyAccelerated;
  }

  delete() {
    this.compiled.delete();
  }
}

/** A detector's outputs by their role; the file's tensors do not always have the names of the signature. */
function detections(outputs) {
  const named = Object.fromEntries(outputs);
  if (named.boxes) return { ...named, count: named.count[0] };
  const values = outputs.map(([, array]) => array);
  const boxes = values.find((array) => array.length > 4 && array.length % 4 === 0 && values.some((other) => other.length * 4 === array.length));
  const lists = values.filter((array) => array.length * 4 === boxes.length);
  const scores = lists.find((array) => array instanceof Float32Array);
  return { boxes, scores, labels: lists.find((array) => array !== scores), count: values.find((array) => array.length === 1)[0] };
}

/** A part of a source, as a source. */
function part(source, { top, left, width, height }) {
  return { width, height, read: (x, y, w, h) => source.read(x + left, y + top, w, h) };
}

function size(shape) {
  return shape.reduce((product, side) => product * side, 1);
}

/** The input values of the levels 0..255, by channel; null where the network takes the levels themselves. */
export function inputTables({ kind, input, rescaling }) {
  if (kind === "detector") return null;
  const isRaw = input.dtype === "uint8" && !rescaling && input.scale === 1 && input.zero_point === 0;
  if (isRaw) return null;
  return Array.from({ length: input.shape[3] }, (_, channel) => {
    const scale = Math.fround(rescaling?.scale[channel] ?? 1), offset = Math.fround(rescaling?.offset[channel] ?? 0);
    return ARRAYS[input.dtype].from({ length: 256 }, (_, level) => quantized(Math.fround(Math.fround(level * scale) + offset), input));
  });
}

function quantized(value, { dtype, scale, zero_point: zero }) {
  return dtype === "uint8" && scale ? Math.min(Math.max(Math.round(value / scale) + zero, 0), 255) : value;
}

function dequantized(values, { scale, zero_point: zero }) {
  return Float32Array.from(values, scale ? (value) => (value - zero) * scale : (value) => value);
}

/** Probabilities from a network's outputs, as in fd_keras.image_classifier. */
export function probabilities(scores, head) {
  if (scores.length === 1) return Float32Array.of(1 - scores[0], scores[0]);
  const least = Math.min(...scores), most = Math.max(...scores);
  if (head !== "logits" && least >= -ROUNDING && most <= 1 + ROUNDING) return scores;
  const powers = scores.map((score) => Math.exp(score - most));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}
