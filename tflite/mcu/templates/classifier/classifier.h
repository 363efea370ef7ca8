// The network, for TensorFlow Lite Micro (TFLM).
//
//   alignas(16) static std::uint8_t arena[classifier::kArenaSize];
//   classifier::Begin(arena, sizeof(arena));
//   classifier::CameraToTensor(frame, classifier::Input());  // before every Run(), which overwrites the input
//   const classifier::OutputValue* scores = classifier::Run();
//   std::puts(classifier::kLabels[classifier::Best(scores)]);
#ifndef CLASSIFIER_CLASSIFIER_H_
#define CLASSIFIER_CLASSIFIER_H_

#include <cstddef>
#include <cstdint>

#include "model.h"

// Scratch memory of the kernels in the arena: none for TFLM's own, see the platforms' build files for others.
#ifndef CLASSIFIER_SCRATCH_BYTES
#define CLASSIFIER_SCRATCH_BYTES 0
#endif

namespace classifier {

// Input image.
constexpr int kWidth = @width;
constexpr int kHeight = @height;
constexpr int kChannels = @channels;
using InputValue = std::@{input_type}_t;
constexpr int kInputZeroPoint = @input_zero_point;  // value of a black pixel

// Frames are resized to cover this before the central crop.
constexpr int kResizeWidth = @resize_width;
constexpr int kResizeHeight = @resize_height;
// Number of frame pixels, along one side, that are combined to one: enough for @camera_width x @camera_height frames.
// Larger frames need more; each one takes 4 * kWidth bytes of RAM.
constexpr int kTaps = @taps;

// Scores.
constexpr int kClasses = @classes;
using OutputValue = std::@{output_type}_t;
constexpr float kOutputScale = @{output_scale}f;
constexpr int kOutputZeroPoint = @output_zero_point;
extern const char* const kLabels[kClasses];

constexpr std::size_t kArenaSize = model::kArenaSize + CLASSIFIER_SCRATCH_BYTES;

// Prepares the network; call it once. The arena must stay valid. Returns false if it is too small, or if TFLM rejects
// the model.
bool Begin(std::uint8_t* arena, std::size_t size);

// The buffer for the image, kWidth * kHeight * kChannels values.
InputValue* Input();

// Runs the network; returns kClasses scores, or nullptr if it failed.
const OutputValue* Run();

// The class with the highest score.
int Best(const OutputValue* scores);

// Converts a score to a number, which is a probability if the network ends with softmax or sigmoid.
inline float Probability(OutputValue score) { return kOutputScale * (score - kOutputZeroPoint); }

// Number of arena bytes in use; the arena can be reduced to this size.
std::size_t ArenaUsed();

}  // namespace classifier

#endif  // CLASSIFIER_CLASSIFIER_H_
