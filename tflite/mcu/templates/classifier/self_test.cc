#include "self_test.h"

#include "camera.h"
#include "classifier.h"
#include "self_test_data.h"
#include "tensorflow/lite/micro/micro_log.h"

namespace classifier {
namespace {

// FNV-1a, 32 bits.
std::uint32_t Hash(const InputValue* values, int count) {
  std::uint32_t hash = 2166136261u;
  for (int i = 0; i < count; ++i) hash = (hash ^ static_cast<std::uint8_t>(values[i])) * 16777619u;
  return hash;
}

int LargestDifference(const OutputValue* scores) {
  int largest = 0;
  for (int i = 0; i < kClasses; ++i) {
    const int difference = scores[i] - kTestScores[i];
    largest = difference > largest ? difference : -difference > largest ? -difference : largest;
  }
  return largest;
}

}  // namespace

bool SelfTest() {
  const Frame frame = {kTestFrame, kTestFrameWidth, kTestFrameHeight, PixelFormat::kRgb565};
  if (!CameraToTensor(frame, Input()) || Hash(Input(), kWidth * kHeight * kChannels) != kTestPixels) {
    MicroPrintf("self-test: FAILED: the pixels of CameraToTensor differ from those of fd_keras");
    return false;
  }
  const OutputValue* const scores = Run();
  if (scores == nullptr) {
    MicroPrintf("self-test: FAILED: the network does not run");
    return false;
  }
  const int difference = LargestDifference(scores), best = Best(scores);
  const bool passed = difference <= kTolerance;
  MicroPrintf("self-test: %s: class %d (%s), scores differ from LiteRT's by at most %d of 255 (limit %d)",
              passed ? "passed" : "FAILED", best, kLabels[best], difference, kTolerance);
  MicroPrintf("arena: %d of %d bytes used", static_cast<int>(ArenaUsed()), static_cast<int>(kArenaSize));
  return passed;
}

}  // namespace classifier
