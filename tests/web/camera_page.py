"""Reads what the camera page shows and computes, in either browser."""

import base64
import json
import pathlib
import shutil

import numpy as np

from tests.browser import Tab
from tests.firefox import Firefox

SHOWN = (
    "[...document.querySelectorAll('.card')].map(card => [...card.querySelectorAll('li')].map(row => row.innerText))"
)
ERROR = "document.getElementById('error')"
# For each of COUNT photos: the input of the first model as base64, and its probabilities or boxes. Runs as a module
# script, since Firefox applies the import map only to these.
_LOOK = """
import { fromFile } from "./picture.js";
import { open } from "./model.js";

const settings = await (await fetch("models.json")).json();
const model = await open(settings.models[0], settings, "wasm");
const found = [];
for (let i = 0; i < COUNT; i++) {
  const source = await fromFile(await (await fetch(`look/${i}`)).blob(), 1e9);
  const bytes = new Uint8Array(model.input(source).buffer);
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  const { probabilities, boxes } = await model.look(source);
  found.push([btoa(text), probabilities ? [...probabilities] : boxes]);
  source.close();
}
model.delete();
document.documentElement.dataset.found = JSON.stringify(found);
"""
_RUN = """(() => {
  const script = document.createElement("script");
  Object.assign(script, { type: "module", src: "look.js" });
  document.head.append(script);
})()"""
_FOUND = "document.documentElement.dataset.found"


def choose(tab: Tab | Firefox, path: pathlib.Path) -> list[list[str]]:
    """Chooses a photo; returns the lines of each card."""
    tab.choose_file("#file", path)
    tab.wait(f"document.getElementById('spoken').textContent || !{ERROR}.hidden")
    assert tab.run("document.getElementById('spoken').textContent"), tab.run(f"{ERROR}.textContent")
    return tab.run(SHOWN)


def look(tab: Tab | Firefox, place: pathlib.Path, paths: list[pathlib.Path]) -> list[tuple[np.ndarray, list]]:
    """For each photo, the input of the first model as an array, and its probabilities or boxes."""
    (place / "look").mkdir()
    for number, path in enumerate(paths):
        shutil.copy(path, place / "look" / str(number))
    (place / "look.js").write_text(_LOOK.replace("COUNT", str(len(paths))))
    tab.run(_RUN)
    tab.wait(_FOUND)
    found = json.loads(tab.run(_FOUND))
    shutil.rmtree(place / "look")
    (place / "look.js").unlink()
    facts = json.loads((place / "models.json").read_text())["models"][0]["input"]
    return [
        (np.frombuffer(base64.b64decode(text), facts["dtype"]).reshape(facts["shape"][1:]), answer)
        for text, answer in found
    ]
