// Camera frames as the network's input, in integers.
//
// Resizes with a triangle filter until the frame covers @resize_width x @resize_height, and takes the central
// @width x @height pixels, as PIL and fd_keras.imagenet do. Of RGB888 the pixels are the same to the bit.
// RGB565 has 5 or 6 bits for a color; the highest are repeated below them (11111 becomes 255), so a color differs
// by at most 7 of 255 from one of 8 bits.
#ifndef CLASSIFIER_CAMERA_H_
#define CLASSIFIER_CAMERA_H_

#include <cstdint>

#include "classifier.h"

namespace classifier {

enum class PixelFormat {
  kRgb565,         // 2 bytes, red in the first: as sensors send it and esp32-camera stores it
  kRgb565Swapped,  // 2 bytes, red in the second: a 16-bit word of this processor, as of displays
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
// False, and nothing is written, if the frame is empty or needs more than kTaps.
bool CameraToTensor(const Frame& frame, InputValue* tensor);

}  // namespace classifier

#endif  // CLASSIFIER_CAMERA_H_
