// Pillow's bilinear resize of 8-bit images, bit for bit; browsers scale differently.

const PRECISION = 22; // fractional bits of a weight, as in Pillow's Resample.c
const HALF = 1 << (PRECISION - 1);
const STRIP = 1 << 20; // pixels read from a photo at a time

/** Weights (a triangle filter) of `count` output pixels, starting with `first`, when `from` pixels are resized to `to`. */
export function weights(from, to, first, count) {
  const scale = from / to;
  const filterScale = Math.max(scale, 1);
  const width = Math.ceil(filterScale) * 2 + 1;
  const starts = new Int32Array(count), sizes = new Int32Array(count), values = new Int32Array(count * width);
  for (let i = 0; i < count; i++) {
    const center = (first + i + 0.5) * scale;
    const start = Math.max(Math.trunc(center - filterScale + 0.5), 0);
    const size = Math.min(Math.trunc(center + filterScale + 0.5), from) - start;
    const exact = Array.from({ length: size }, (_, x) => Math.max(1 - Math.abs((x + start - center + 0.5) / filterScale), 0));
    const sum = exact.reduce((total, value) => total + value, 0);
    exact.forEach((value, x) => { values[i * width + x] = Math.trunc(0.5 + (value / sum) * (1 << PRECISION)); });
    starts[i] = start;
    sizes[i] = size;
  }
  return { starts, sizes, values, width };
}

/**
 * Resizes an image and returns a part of it.
 *
 * @param source {width, height, read(x, y, width, height)}; read returns RGBA bytes.
 * @param size {width, height} of the whole resized image.
 * @param crop {left, top, width, height}: the part to return.
 * @param channels 3 for RGB, 1 for gray.
 * @return Uint8Array of crop.height x crop.width x channels.
 */
export function resample(source, size, crop, channels) {
  const across = weights(source.width, size.width, crop.left, crop.width);
  const down = weights(source.height, size.height, crop.top, crop.height);
  const left = across.starts[0], right = end(across);
  const top = down.starts[0], bottom = end(down);
  const rows = new Uint8Array((bottom - top) * crop.width * channels);
  const strip = Math.max(Math.floor(STRIP / (right - left)), 1);
  for (let y = top; y < bottom; y += strip) {
    const height = Math.min(strip, bottom - y);
    const rgba = source.read(left, y, right - left, height);
    const pixels = channels === 1 ? gray(rgba) : rgba;
    shrinkRows(pixels, channels === 1 ? 1 : 4, right - left, height, left, across, channels, rows, (y - top) * crop.width * channels);
  }
  return shrinkColumns(rows, crop.width * channels, top, down, crop.height);
}

function end({ starts, sizes }) {
  return starts.reduce((last, start, i) => Math.max(last, start + sizes[i]), 0);
}

/** Pillow's conversion to "L". */
function gray(rgba) {
  const out = new Uint8Array(rgba.length / 4);
  for (let i = 0; i < out.length; i++) {
    out[i] = (rgba[4 * i] * 19595 + rgba[4 * i + 1] * 38470 + rgba[4 * i + 2] * 7471 + 0x8000) >> 16;
  }
  return out;
}

function shrinkRows(pixels, stride, width, height, left, table, channels, out, offset) {
  const { starts, sizes, values } = table;
  for (let y = 0; y < height; y++) {
    for (let i = 0; i < starts.length; i++) {
      const from = (y * width + starts[i] - left) * stride;
      for (let c = 0; c < channels; c++) {
        let sum = HALF;
        for (let x = 0; x < sizes[i]; x++) sum += pixels[from + x * stride + c] * values[i * table.width + x];
        out[offset++] = clip(sum >> PRECISION);
      }
    }
  }
}

function shrinkColumns(rows, width, top, table, height) {
  const { starts, sizes, values } = table;
  const out = new Uint8Array(height * width);
  for (let i = 0; i < height; i++) {
    for (let x = 0; x < width; x++) {
      let sum = HALF;
      for (let y = 0; y < sizes[i]; y++) sum += rows[(starts[i] - top + y) * width + x] * values[i * table.width + y];
      out[i * width + x] = clip(sum >> PRECISION);
    }
  }
  return out;
}

function clip(value) {
  return value < 0 ? 0 : value > 255 ? 255 : value;
}
