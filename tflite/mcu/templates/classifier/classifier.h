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

// Scratch memory that the kernels ask for in the arena: none for TFLM's own, see the platforms' build files for others.
#ifndef CLASSIFIER_SCRATCH_BYTES
#define CLASSIFIER_SCRATCH_BYTES 0
#endif

namespace classifier {

// The image.
constexpr int kWidth = @width;
constexpr int kHeight = @height;
constexpr int kChannels = @channels;
using InputValue = std::@{input_type}_t;
constexpr int kInputZeroPoint = @input_zero_point;  // what a black pixel is

// Frames are resized to cover this before the central crop.
constexpr int kResizeWidth = @resize_width;
constexpr int kResizeHeight = @resize_height;
// Pixels of a frame, along a side, that make one of the image: enough for frames of @camera_width x @camera_height.
// Larger frames need more; each takes 4 * kWidth bytes of RAM.
constexpr int kTaps = @taps;

// The scores.
constexpr int kClasses = @classes;
using OutputValue = std::@{output_type}_t;
constexpr float kOutputScale = @{output_scale}f;
constexpr int kOutputZeroPoint = @output_zero_point;
extern const char* const kLabels[kClasses];

constexpr std::size_t kArenaSize = model::kArenaSize + CLASSIFIER_SCRATCH_BYTES;

// Prepares the network in an arena that stays; once. False if the arena is too small or TFLM refuses the model.
bool Begin(std::uint8_t* arena, std::size_t size);

// Where the image goes: kWidth * kHeight * kChannels values.
InputValue* Input();

// Runs the network: kClasses scores, or nullptr if it failed.
const OutputValue* Run();

// The class with the highest score.
int Best(const OutputValue* scores);

// A score as a number: a probability, if the network ends with softmax or sigmoid.
inline float Probability(OutputValue score) { return kOutputScale * (score - kOutputZeroPoint); }

// Bytes of the arena in use; the rest can be saved.
std::size_t ArenaUsed();

}  // namespace classifier

#endif  // CLASSIFIER_CLASSIFIER_H_
