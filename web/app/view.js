// Draws the picture with the part that the network sees and the boxes of detectors.

const LONGEST = 960; // pixels of the canvas's longer side; the network reads the full picture
const COLORS = ["#6ea8fe", "#fb923c", "#2dd4bf", "#b794f6", "#facc15", "#f472b6", "#a3e635", "#22d3ee"];
const FONT = "600 16px system-ui, sans-serif";

/** Draws a source with {seen, boxes}, which are in the source's pixels; `mirrored` flips it. */
export function draw(canvas, source, { seen, boxes = [], mirrored = false }) {
  const scale = Math.min(LONGEST / Math.max(source.width, source.height), 1);
  const width = Math.max(Math.round(source.width * scale), 1), height = Math.max(Math.round(source.height * scale), 1);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.save();
  if (mirrored) context.setTransform(-1, 0, 0, 1, width, 0);
  source.draw(context, width, height);
  context.restore();
  const place = (box) => ({
    x: (mirrored ? source.width - box.x - box.width : box.x) * scale,
    y: box.y * scale, width: box.width * scale, height: box.height * scale,
  });
  if (seen) drawSquare(context, place(seen), width, height);
  boxes.forEach((box) => drawBox(context, place(box), box));
}

/** Darkens what the network does not see. */
function drawSquare(context, { x, y, width, height }, whole, high) {
  context.fillStyle = "rgb(0 0 0 / 45%)";
  context.beginPath();
  context.rect(0, 0, whole, high);
  context.rect(x, y, width, height);
  context.fill("evenodd");
  context.strokeStyle = "#fff";
  context.lineWidth = 2;
  context.strokeRect(x, y, width, height);
}

function drawBox(context, { x, y, width, height }, { name, score, label }) {
  const color = COLORS[label % COLORS.length], text = `${name} ${percent(score)}`;
  context.strokeStyle = color;
  context.lineWidth = 3;
  context.strokeRect(x, y, width, height);
  context.font = FONT;
  const long = context.measureText(text).width + 10, top = Math.max(y - 24, 0);
  context.fillStyle = color;
  context.fillRect(x - 1.5, top, long, 24);
  context.fillStyle = "#10141a";
  context.fillText(text, x + 4, top + 17);
}

export function percent(value) {
  return value >= 0.9995 ? "100%" : `${(100 * value).toFixed(1)}%`;
}

/** The picture with the results below it, as a PNG. */
export function compose(view, answers) {
  const lines = answers.flatMap(({ label, rows }) => [label, ...rows.map((row) => `   ${row}`)]);
  const width = Math.max(view.width, 480), height = view.height + 24 * lines.length + 24;
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d");
  context.fillStyle = "#14171b";
  context.fillRect(0, 0, width, height);
  context.drawImage(view, (width - view.width) / 2, 0);
  lines.forEach((line, i) => {
    context.font = line.startsWith(" ") ? "16px system-ui, sans-serif" : FONT;
    context.fillStyle = line.startsWith(" ") ? "#e6e9ee" : "#9aa4b2";
    context.fillText(line, 16, view.height + 28 + 24 * i, width - 32);
  });
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

/** Shares a picture through the system's menu, or downloads it where there is none. */
export async function share(blob) {
  const file = new File([blob], "fd_keras.png", { type: "image/png" });
  if (navigator.canShare?.({ files: [file] })) {
    try {
      await navigator.share({ files: [file] });
      return;
    } catch (error) {
      if (error.name === "AbortError") return;
    }
  }
  const address = URL.createObjectURL(blob);
  Object.assign(document.createElement("a"), { href: address, download: file.name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
