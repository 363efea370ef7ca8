// Times models in alternating rounds, as fd-keras bench does, with the coarse clock of browsers.

import { median, quantile } from "./card.js";

const ROUNDS = 10;
const WARMUP = 5;
const LEAST_MS = 10; // minimum duration of a sample; several short runs make one

/** Thrown when a measurement would be meaningless. */
export class Disturbed extends Error {}

/**
 * Times models.
 *
 * @param models Models to time.
 * @param runs Number of runs per model.
 * @param onProgress Called with the completed fraction.
 * @return A list of {label, round, place, batch, ms: [...]}; a sample is the mean of `batch` runs.
 */
export async function measure(models, runs, onProgress) {
  const plans = [];
  for (const model of models) plans.push(await plan(model, runs));
  const rounds = [];
  for (let round = 1; round <= ROUNDS; round++) {
    let place = 0;
    for (const { model, input, batch, samples } of shuffled(plans)) {
      await pause();
      if (document.hidden) throw new Disturbed("The page went into the background, where browsers slow it down. Measure again.");
      const ms = [];
      for (let i = 0; i < WARMUP; i++) await model.run(input);
      for (let i = 0; i < samples; i++) ms.push(await sample(model, input, batch));
      rounds.push({ label: model.facts.label, round, place: ++place, batch, ms });
    }
    onProgress(round / ROUNDS);
  }
  return rounds;
}

async function plan(model, runs) {
  const input = noise(model);
  const least = Math.max(await sample(model, input, 3), 0.01);
  const batch = Math.min(Math.ceil(LEAST_MS / least), Math.ceil(runs / ROUNDS));
  return { model, input, batch, samples: Math.max(Math.round(runs / ROUNDS / batch), 1) };
}

async function sample(model, input, batch) {
  const start = performance.now();
  for (let i = 0; i < batch; i++) await model.run(input);
  return Math.max((performance.now() - start) / batch, 1e-4);
}

/** The model's input for an image of noise, which is the same each time. */
export function noise(model) {
  let state = 1;
  const next = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) >>> 24;
  const [, height, width] = model.facts.input.shape;
  const rgba = Uint8ClampedArray.from({ length: height * width * 4 }, next);
  return model.input({
    width,
    height,
    read: (x, y, w, h) => Uint8ClampedArray.from({ length: w * h * 4 }, (_, i) => {
      const pixel = i >> 2;
      return rgba[4 * ((y + Math.trunc(pixel / w)) * width + x + (pixel % w)) + (i & 3)];
    }),
  });
}

function shuffled(items) {
  const order = [...items];
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

function pause() {
  return new Promise((resolve) => setTimeout(resolve));
}

/** Statistics of a model's rounds; drift compares the last third of them with the first. */
export function summarize(rounds, label) {
  const own = rounds.filter((round) => round.label === label), third = Math.ceil(own.length / 3);
  const all = own.flatMap(({ ms }) => ms);
  const of = (part) => median(part.flatMap(({ ms }) => ms));
  return {
    median: median(all),
    p90: quantile(all, 0.9),
    drift: of(own.slice(-third)) / of(own.slice(0, third)) - 1,
    runs: own.reduce((sum, { batch, ms }) => sum + batch * ms.length, 0),
  };
}

/** Names of this browser and device, as far as the browser reveals them. */
export async function describeBrowser() {
  const data = navigator.userAgentData;
  const high = await data?.getHighEntropyValues(["model", "platformVersion", "fullVersionList"]).catch(() => null);
  if (!high) return { browser: navigator.userAgent.slice(0, 200), device: navigator.platform || "browser" };
  const brands = high.fullVersionList ?? data.brands;
  const { brand, version } = brands.find(({ brand }) => !/not/i.test(brand) && brand !== "Chromium") ?? brands.find(({ brand }) => brand === "Chromium") ?? brands[0];
  const system = `${data.platform} ${high.platformVersion ?? ""}`.trim();
  return { browser: `${brand} ${version}, ${system}`, device: high.model || system || "browser" };
}
