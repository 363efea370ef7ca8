// Which part of an image a model sees: the resize and central crop of fd_keras.imagenet, and the fit of detectors.

/** Size of an image that is resized to just cover a target; the longer side is truncated. Sizes are [height, width]. */
export function resizedSize([height, width], target) {
  if (height * target[1] <= width * target[0]) {
    return [target[0], Math.max(target[1], Math.trunc((target[0] * width) / height))];
  }
  return [Math.max(target[0], Math.trunc((target[1] * height) / width)), target[1]];
}

/** Top and left of the central crop. */
export function cropOffset(sides, size) {
  return sides.map((side, i) => roundHalfToEven((side - size[i]) / 2));
}

/** The middle part of an extremely long image: {top, left, height, width}. */
export function withoutFarEnds([height, width], longest) {
  const most = longest * Math.min(height, width);
  const kept = [Math.min(height, most), Math.min(width, most)];
  const [top, left] = cropOffset([height, width], kept);
  return { top, left, height: kept[0], width: kept[1] };
}

/** What a classifier sees: the image's middle part, its size after the resize, the crop of that, and the crop in the image's pixels. */
export function classifierView(sides, model, longest) {
  const middle = withoutFarEnds(sides, longest);
  const [height, width] = resizedSize([middle.height, middle.width], model.resize);
  const size = model.input.shape.slice(1, 3);
  const [top, left] = cropOffset([height, width], size);
  const down = middle.height / height, across = middle.width / width;
  return {
    middle,
    resized: { height, width },
    crop: { top, left, height: size[0], width: size[1] },
    seen: { x: middle.left + left * across, y: middle.top + top * down, width: size[1] * across, height: size[0] * down },
  };
}

/** How a photo is fitted into a detector's input: its size there, and the factors of the boxes. */
export function detectorView([height, width], model) {
  const [, inputHeight, inputWidth] = model.input.shape;
  const factor = Math.min(inputHeight / height, inputWidth / width);
  const [h, w] = [height, width].map((side) => Math.max(roundHalfToEven(side * factor), 1));
  return { resized: { height: h, width: w }, factors: [w / width, h / height] };
}

function roundHalfToEven(value) {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}
