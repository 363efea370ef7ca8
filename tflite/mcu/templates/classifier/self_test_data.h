// Reference data of the self-test; not needed otherwise.
#ifndef CLASSIFIER_SELF_TEST_DATA_H_
#define CLASSIFIER_SELF_TEST_DATA_H_

#include "classifier.h"

namespace classifier {

constexpr int kTestFrameWidth = @frame_width;
constexpr int kTestFrameHeight = @frame_height;
extern const std::uint8_t kTestFrame[2 * kTestFrameWidth * kTestFrameHeight];  // RGB565, red in the first byte

constexpr std::uint32_t kTestPixels = @{pixels_hash}u;  // hash of the input as fd_keras.imagenet computes it
extern const OutputValue kTestScores[kClasses];         // from LiteRT's reference kernels
constexpr int kTolerance = @tolerance;                  // vendors' kernels round some steps differently

}  // namespace classifier

#endif  // CLASSIFIER_SELF_TEST_DATA_H_
