#include "camera.h"

#include <algorithm>

namespace classifier {
namespace {

constexpr int kBits = 22;  // fractional bits of a weight, as in PIL
constexpr std::int32_t kHalf = 1 << (kBits - 1);

// The frame pixels that are combined to one pixel of the result, along one side.
struct Window {
  int first;
  int count;
};

// Overwritten for each frame; static, since stacks are small.
std::int32_t column_weights[kWidth][kTaps];
Window columns[kWidth];
std::int32_t row[kWidth * kChannels];

int Taps(int from, int to) { return (2 * std::max(from, to) + to - 1) / to; }

// Computes the weights of the pixel at `position` for resizing a side of `from` pixels to `to` pixels.
Window Weigh(int from, int to, int position, std::int32_t* weights) {
  // In units of 1 / (2 * to) frame pixels, so that all values are integers.
  const std::int64_t center = (2LL * position + 1) * from;
  const std::int64_t reach = 2LL * std::max(from, to);
  const std::int64_t before = center - reach - to;
  const int first = before < 0 ? 0 : static_cast<int>(before / (2 * to)) + 1;
  const int last = std::min<int>(from - 1, static_cast<int>((center + reach - to - 1) / (2 * to)));
  std::int64_t heights[kTaps], sum = 0;
  for (int i = 0; i <= last - first; ++i) {
    const std::int64_t distance = (2LL * (first + i) + 1) * to - center;
    heights[i] = reach - (distance < 0 ? -distance : distance);
    sum += heights[i];
  }
  for (int i = 0; i <= last - first; ++i) {
    weights[i] = static_cast<std::int32_t>(((heights[i] << (kBits + 1)) + sum) / (2 * sum));
  }
  return {first, last - first + 1};
}

// Reads red, green and blue of a pixel, 0 to 255.
void Read(const Frame& frame, std::int32_t index, std::int32_t* color) {
  const bool words = frame.format == PixelFormat::kRgb565 || frame.format == PixelFormat::kRgb565Swapped;
  const std::uint8_t* bytes = frame.pixels + index * (words ? 2 : 3);
  if (!words) {
    const bool swapped = frame.format == PixelFormat::kBgr888;
    color[0] = bytes[swapped ? 2 : 0];
    color[1] = bytes[1];
    color[2] = bytes[swapped ? 0 : 2];
    return;
  }
  const bool swapped = frame.format == PixelFormat::kRgb565Swapped;
  const int word = bytes[swapped ? 1 : 0] << 8 | bytes[swapped ? 0 : 1];
  const int red = word >> 11, green = word >> 5 & 63, blue = word & 31;
  color[0] = red << 3 | red >> 2;
  color[1] = green << 2 | green >> 4;
  color[2] = blue << 3 | blue >> 2;
}

// Reads a pixel in the network's channels: RGB, or gray as PIL computes it.
void ReadChannels(const Frame& frame, std::int32_t index, std::int32_t* color) {
  Read(frame, index, color);
  if (kChannels == 1) color[0] = (color[0] * 19595 + color[1] * 38470 + color[2] * 7471 + 0x8000) >> 16;
}

// Adds a row of the frame, resized to the columns of the result, to `row`.
void AddRow(const Frame& frame, int y, std::int32_t weight) {
  for (int x = 0; x < kWidth; ++x) {
    std::int32_t sums[3] = {kHalf, kHalf, kHalf}, color[3];
    for (int i = 0; i < columns[x].count; ++i) {
      ReadChannels(frame, y * frame.width + columns[x].first + i, color);
      for (int c = 0; c < kChannels; ++c) sums[c] += column_weights[x][i] * color[c];
    }
    for (int c = 0; c < kChannels; ++c) row[x * kChannels + c] += weight * (sums[c] >> kBits);
  }
}

// Computes the smallest size with the frame's aspect ratio that covers kResizeWidth x kResizeHeight.
void Cover(const Frame& frame, int* width, int* height) {
  const std::int64_t w = frame.width, h = frame.height;
  const bool upright = h * kResizeWidth > w * kResizeHeight;
  *width = upright ? kResizeWidth : std::max<int>(kResizeWidth, static_cast<int>(kResizeHeight * w / h));
  *height = upright ? std::max<int>(kResizeHeight, static_cast<int>(kResizeWidth * h / w)) : kResizeHeight;
}

// Half of the pixels that a crop removes, rounded half to even.
int Margin(int rest) { return rest / 2 + (rest % 4 == 3 ? 1 : 0); }

}  // namespace

bool CameraToTensor(const Frame& frame, InputValue* tensor) {
  if (frame.pixels == nullptr || frame.width < 1 || frame.height < 1) return false;
  if (std::max(frame.width, frame.height) > 64 * std::min(frame.width, frame.height)) return false;
  int width, height;
  Cover(frame, &width, &height);
  if (Taps(frame.width, width) > kTaps || Taps(frame.height, height) > kTaps) return false;
  const int left = Margin(width - kWidth), top = Margin(height - kHeight);
  for (int x = 0; x < kWidth; ++x) columns[x] = Weigh(frame.width, width, left + x, column_weights[x]);
  for (int y = 0; y < kHeight; ++y) {
    std::int32_t weights[kTaps];
    const Window rows = Weigh(frame.height, height, top + y, weights);
    std::fill(row, row + kWidth * kChannels, kHalf);
    for (int i = 0; i < rows.count; ++i) AddRow(frame, rows.first + i, weights[i]);
    for (int i = 0; i < kWidth * kChannels; ++i) {
      *tensor++ = static_cast<InputValue>((row[i] >> kBits) + kInputZeroPoint);
    }
  }
  return true;
}

}  // namespace classifier
