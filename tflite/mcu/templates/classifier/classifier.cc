#include "classifier.h"

#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_log.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace classifier {
namespace {

tflite::MicroInterpreter* interpreter = nullptr;

// Whether the sizes of the model match the constants.
bool Fits() {
  const std::size_t pixels = sizeof(InputValue) * kWidth * kHeight * kChannels;
  return interpreter->input(0)->bytes == pixels && interpreter->output(0)->bytes == sizeof(OutputValue) * kClasses;
}

}  // namespace

bool Begin(std::uint8_t* arena, std::size_t size) {
  const tflite::Model* const network = tflite::GetModel(model::kModel);
  static tflite::MicroMutableOpResolver<model::kOpCount> resolver;
  static const bool added = model::AddOps(resolver);
  if (!added || network->version() != TFLITE_SCHEMA_VERSION) {
    MicroPrintf("this release of TFLM does not support the model");
    return false;
  }
  static tflite::MicroInterpreter only(network, resolver, arena, size);
  interpreter = &only;
  if (only.AllocateTensors() != kTfLiteOk) {
    MicroPrintf("an arena of %d bytes is too small; raise CLASSIFIER_SCRATCH_BYTES", static_cast<int>(size));
    return false;
  }
  return Fits();
}

InputValue* Input() { return reinterpret_cast<InputValue*>(interpreter->input(0)->data.raw); }

const OutputValue* Run() {
  if (interpreter->Invoke() != kTfLiteOk) return nullptr;
  return reinterpret_cast<const OutputValue*>(interpreter->output(0)->data.raw);
}

int Best(const OutputValue* scores) {
  int best = 0;
  for (int i = 1; i < kClasses; ++i) {
    if (scores[i] > scores[best]) best = i;
  }
  return best;
}

std::size_t ArenaUsed() { return interpreter->arena_used_bytes(); }

}  // namespace classifier
