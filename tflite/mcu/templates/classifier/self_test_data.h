// What the self-test compares with; not needed otherwise.
#ifndef CLASSIFIER_SELF_TEST_DATA_H_
#define CLASSIFIER_SELF_TEST_DATA_H_

#include "classifier.h"

namespace classifier {

constexpr int kTestFrameWidth = @frame_width;
constexpr int kTestFrameHeight = @frame_height;
extern const std::uint8_t kTestFrame[2 * kTestFrameWidth * kTestFrameHeight];  // RGB565, red in the first byte

constexpr std::uint32_t kTestPixels = @{pixels_hash}u;  // hash of the network's input, made by fd_keras.imagenet
extern const OutputValue kTestScores[kClasses];         // LiteRT's, with its reference kernels
constexpr int kTolerance = @tolerance;                  // kernels of vendors round some steps differently

}  // namespace classifier

#endif  // CLASSIFIER_SELF_TEST_DATA_H_
