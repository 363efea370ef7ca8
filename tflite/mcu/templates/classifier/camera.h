// Converts camera frames to the network's input, with integers only.
//
// A frame is resized with a triangle filter to the smallest size that covers @resize_width x @resize_height, and
// cropped to the central @width x @height pixels, like in PIL and fd_keras.imagenet: for RGB888, bit-identically.
// RGB565 has 5 or 6 bits per color; the high bits are repeated in the low bits (11111 becomes 255), so a color differs
// by at most 7 of 255 from its 8-bit value.
#ifndef CLASSIFIER_CAMERA_H_
#define CLASSIFIER_CAMERA_H_

#include <cstdint>

#include "classifier.h"

namespace classifier {

enum class PixelFormat {
  kRgb565,         // 2 bytes, red in the first: as sensors send it and esp32-camera stores it
  kRgb565Swapped,  // 2 bytes, red in the second: a 16-bit word of this processor, as for displays
  kRgb888,         // 3 bytes: red, green, blue
  kBgr888,         // 3 bytes: blue, green, red, as esp32-camera converts
};

struct Frame {
  const std::uint8_t* pixels;  // rows without gaps
  int width;
  int height;
  PixelFormat format;
};

// Fills the network's input, kWidth x kHeight x kChannels values.
// Returns false, and writes nothing, if the frame is empty or needs more than kTaps.
bool CameraToTensor(const Frame& frame, InputValue* tensor);

}  // namespace classifier

#endif  // CLASSIFIER_CAMERA_H_
