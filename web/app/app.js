// The page: runs the models on pictures and shows their results in cards.

import { loadLiteRt } from "@litertjs/core";
import { breakable, Card, element, milliseconds } from "./card.js";
import { classifierView } from "./geometry.js";
import { describeBrowser, Disturbed, measure, noise, summarize } from "./measure.js";
import { open } from "./model.js";
import { keepOffline } from "./offline.js";
import { Camera, fromFile } from "./picture.js";
import { compose, draw, share } from "./view.js";

const MOST_AT_ONCE = 3; // models that are selected at the start
const FRAMES = 20; // frames that the frame rate is averaged over
const SPOKEN_EVERY = 4000; // milliseconds between announcements to screen readers on live video

const $ = (id) => document.getElementById(id);
const camera = new Camera($("video"));
const entries = []; // {facts, model, card, chosen, firstMs}
let settings, source = null, busy = null, wanted = 0, locked = false, frames = [], spoken = { text: "", at: 0 };

// --- models ---

async function start() {
  try {
    settings = await (await fetch("models.json", { cache: "no-cache" })).json();
    await loadLiteRt("./runtime/wasm/", { threads: false });
  } catch (error) {
    return fail(`The page cannot start: ${error.message ?? error}. Check that the whole folder was copied, and reload.`);
  }
  settings.models.forEach((facts, i) => entries.push({ facts, card: new Card(facts), chosen: i < MOST_AT_ONCE }));
  await loadModels();
  showFiles();
  await offerGpu();
  document.documentElement.dataset.ready = "yes";
  await keepOffline((kept) => { $("offline").textContent = kept ? "This page works offline now." : ""; });
}

async function loadModels() {
  const accelerator = $("accelerator").value;
  for (const entry of entries) {
    entry.model?.delete();
    entry.model = null;
    try {
      entry.model = await open(entry.facts, settings, accelerator);
      if (accelerator === "webgpu" && !entry.model.isWholeOnGpu) throw new Error("runs on the GPU in part only");
      entry.firstMs = (await entry.model.run(noise(entry.model))).ms;
    } catch (error) {
      entry.model?.delete();
      entry.model = null;
      fail(accelerator === "webgpu" ? `${entry.facts.label} cannot run on the GPU. Select the CPU.` : error.message ?? String(error));
    }
  }
  $("status").textContent = `${settings.runtime}, ${$("accelerator").selectedOptions[0].textContent}`;
  showCards();
  showChoice();
}

function running() {
  return entries.filter(({ model, chosen }) => model && chosen);
}

function showCards() {
  $("cards").replaceChildren(...running().map(({ card }) => card.element));
  $("measure").disabled = !running().length;
}

function showChoice() {
  $("choice").hidden = entries.length < 2;
  $("choice").querySelectorAll("label").forEach((label) => label.remove());
  for (const entry of entries) {
    const box = Object.assign(element("input"), { type: "checkbox", checked: Boolean(entry.model && entry.chosen), disabled: !entry.model });
    box.addEventListener("change", () => choose(entry, box.checked));
    const label = element("label");
    label.append(box, element("bdi", "", breakable(entry.facts.label)));
    $("choice").append(label);
  }
}

function choose(entry, chosen) {
  entry.chosen = chosen;
  entry.card.reset();
  showCards();
  lookAgain();
}

function showFiles() {
  for (const { label, size_bytes: size, sha256, kind, classes, input } of settings.models) {
    const [, height, width] = input.shape;
    $("files").append(element("dt", "", label), element("dd", "",
      `${kind}, ${classes.length} classes, ${width} x ${height} pixels, ${input.dtype}, ${Math.round(size / 1000)} kB, SHA-256 ${sha256}`));
  }
}

async function offerGpu() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  document.querySelectorAll(".gpu").forEach((part) => { part.hidden = !adapter; });
}

// --- pictures ---

/** Replaces the picture and shows the results of the models. */
async function take(next) {
  const old = source;
  source = next;
  $("stage").classList.remove("empty");
  await lookAgain();
  if (old !== next) old?.close(); // only now: until here a slow model may have been reading it
}

/** Runs the selected models on the picture; calls during a run are merged into one more run. */
function lookAgain() {
  wanted++;
  busy ??= lookUntilDone();
  return busy;
}

async function lookUntilDone() {
  await null; // so that `busy` is set before it is cleared
  try {
    for (let done = 0; done !== wanted && !locked;) {
      done = wanted;
      if (source) await look(camera.isOn && !isFrozen());
    }
  } catch (error) {
    fail(`A model failed on this picture: ${error.message ?? error}.`);
  } finally {
    busy = null;
  }
}

async function look(live) {
  const shown = source, boxes = [];
  for (const { model, card } of running()) {
    const found = await model.look(shown);
    card.show(found, live);
    if (found.boxes) boxes.push(...card.sure(found.boxes));
    if (!live) await new Promise((resolve) => setTimeout(resolve)); // lets the browser paint before the next model, which may be slow
  }
  draw($("view"), shown, { seen: seenOf(shown), boxes, mirrored: camera.isMirrored });
  speak(live);
}

/** The part of a picture that the first classifier sees. */
function seenOf({ width, height }) {
  const facts = running().map((entry) => entry.facts).find(({ kind }) => kind === "classifier");
  return facts && classifierView([height, width], facts, settings.longest).seen;
}

/** Announces the result to screen readers: of each photo; of live video only changes, every few seconds. */
function speak(live) {
  const text = running().map(({ facts, card }) => `${facts.label}: ${live ? card.rows[0]?.name ?? "nothing" : card.texts.join(", ")}`).join("; ");
  if (live && (performance.now() - spoken.at < SPOKEN_EVERY || text === spoken.text)) return;
  spoken = { text, at: performance.now() };
  $("spoken").textContent = text;
  $("view").setAttribute("aria-label", live ? "Live camera image" : `Photo. ${text}`);
}

async function openFile(file) {
  if (!file) return;
  clearError();
  try {
    const photo = await fromFile(file, settings.max_pixels);
    stopCamera();
    reset();
    await take(photo);
    $("share").hidden = false;
  } catch (error) {
    fail(error.message);
  }
}

function reset() {
  entries.forEach(({ card }) => card.reset());
  frames = [];
  $("rate").textContent = "";
}

// --- camera ---

function isFrozen() {
  return $("freeze").getAttribute("aria-pressed") === "true";
}

async function startCamera() {
  clearError();
  $("camera").disabled = true;
  try {
    await camera.start(() => { stopCamera(); fail("The camera was disconnected. Connect it and start it again, or use a photo."); });
  } catch (error) {
    fail(error.message);
    stopCamera();
    return;
  } finally {
    $("camera").disabled = false;
  }
  reset();
  press("freeze", false);
  press("torch", false);
  $("camera").textContent = "Stop camera";
  $("camera").classList.remove("main");
  $("torch").hidden = !camera.hasTorch;
  ["freeze", "share"].forEach((id) => { $(id).hidden = false; });
  const cameras = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput");
  $("turn").hidden = cameras.length < 2;
  follow(camera.stream);
}

/** Processes frame after frame until the camera is switched or stopped. */
async function follow(stream) {
  while (camera.stream === stream) {
    await new Promise(requestAnimationFrame);
    if (camera.stream !== stream || isFrozen() || !camera.isReady || locked) continue;
    await take(camera.grab());
    countFrame();
  }
}

function countFrame() {
  frames = [...frames.slice(1 - FRAMES), performance.now()];
  document.documentElement.dataset.frames = Number(document.documentElement.dataset.frames ?? 0) + 1;
  if (frames.length > 1) {
    $("rate").textContent = `${((1000 * (frames.length - 1)) / (frames.at(-1) - frames[0])).toFixed(0)} frames per second`;
  }
}

function stopCamera() {
  camera.stop();
  $("camera").textContent = "Start camera";
  $("camera").classList.add("main");
  ["turn", "torch", "freeze"].forEach((id) => { $(id).hidden = true; });
  press("freeze", false);
  $("rate").textContent = "";
}

function press(id, on) {
  $(id).setAttribute("aria-pressed", String(on));
}

// --- measuring ---

async function startMeasuring() {
  const runs = Math.min(Math.max(Math.round(Number($("runs").value)) || 200, 10), 10_000);
  $("runs").value = runs;
  clearError();
  await lock();
  $("measured").hidden = false;
  $("measured").value = 0;
  $("measure-note").textContent = "Measuring …";
  try {
    const chosen = running();
    const rounds = await measure(chosen.map(({ model }) => model), runs, (share) => { $("measured").value = share; });
    showTimings(chosen, rounds);
    $("measure-note").textContent = await send(chosen, rounds);
  } catch (error) {
    $("measure-note").textContent = "";
    fail(error instanceof Disturbed ? error.message : `Measuring failed: ${error.message ?? error}.`);
  } finally {
    $("measured").hidden = true;
    unlock();
  }
}

/** Keeps the models from running on pictures and from being replaced; a picture that came meanwhile is shown afterwards. */
async function lock() {
  locked = true;
  ["choice", "measure", "accelerator", "runs"].forEach((id) => { $(id).disabled = true; });
  await busy;
}

function unlock() {
  locked = false;
  ["choice", "accelerator", "runs"].forEach((id) => { $(id).disabled = false; });
  $("measure").disabled = !running().length;
  lookAgain();
}

function showTimings(chosen, rounds) {
  const rows = chosen.map(({ facts, firstMs }) => {
    const { median, p90, drift } = summarize(rounds, facts.label);
    const row = element("tr"), head = element("th", "", breakable(facts.label));
    head.scope = "row";
    const cells = [milliseconds(median), milliseconds(p90), milliseconds(firstMs), `${drift >= 0 ? "+" : "−"}${Math.abs(100 * drift).toFixed(0)}%`];
    row.append(head, ...cells.map((text) => element("td", "", text)));
    return row;
  });
  $("timings").querySelector("tbody").replaceChildren(...rows);
  $("timings").hidden = false;
}

/** Sends the timings to `fd-keras page` if it serves this page; returns a note for the user. */
async function send(chosen, rounds) {
  const batch = Math.max(...rounds.map((round) => round.batch));
  const { runs } = summarize(rounds, chosen[0].facts.label);
  const how = `${runs} runs in ${rounds.length / chosen.length} rounds; a sample is the mean of up to ${batch} runs, since a browser's clock is coarse.`;
  const token = new URLSearchParams(location.hash.slice(1)).get("save");
  if (!token) return how;
  const content = {
    ...(await describeBrowser()),
    accelerator: $("accelerator").value,
    runtime: settings.runtime,
    first_ms: Object.fromEntries(chosen.map(({ facts, firstMs }) => [facts.label, Math.max(firstMs, 1e-4)])),
    rounds,
  };
  try {
    const answer = await fetch("measurements", {
      method: "POST", headers: { "Content-Type": "application/json", "X-Token": token }, body: JSON.stringify(content),
    });
    const { rows, error } = await answer.json();
    return error ? `${how} Not stored: ${error}.` : `${how} Stored: ${rows} rows in the results folder.`;
  } catch {
    return `${how} Not stored: fd-keras page has stopped; restart it with --serve.`;
  }
}

// --- messages and events ---

function fail(message) {
  $("error").textContent = message;
  $("error").hidden = false;
}

function clearError() {
  $("error").hidden = true;
}

$("stage").classList.add("empty");
$("camera").addEventListener("click", () => (camera.isOn ? stopCamera() : startCamera()));
$("turn").addEventListener("click", () => { camera.turn(); startCamera(); });
$("torch").addEventListener("click", async () => {
  const on = $("torch").getAttribute("aria-pressed") !== "true";
  try {
    await camera.setTorch(on);
    press("torch", on);
  } catch {
    fail("The light of this camera cannot be switched.");
  }
});
$("freeze").addEventListener("click", () => press("freeze", !isFrozen()));
$("share").addEventListener("click", async () => {
  const answers = running().map(({ facts, card }) => ({ label: facts.label, rows: card.texts }));
  await share(await compose($("view"), answers));
});
$("file").addEventListener("change", async () => { await openFile($("file").files[0]); $("file").value = ""; });
document.addEventListener("paste", (event) => openFile([...event.clipboardData.files][0]));
document.addEventListener("dragover", (event) => { event.preventDefault(); $("stage").classList.add("dropping"); });
document.addEventListener("dragleave", () => $("stage").classList.remove("dropping"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("stage").classList.remove("dropping");
  openFile(event.dataTransfer.files[0]);
});
$("measure").addEventListener("click", startMeasuring);
$("accelerator").addEventListener("change", async () => {
  clearError();
  await lock();
  await loadModels();
  unlock();
});

start();
