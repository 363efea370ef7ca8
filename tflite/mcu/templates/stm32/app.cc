#include "app.h"

#include <cstdint>

#include "camera.h"
#include "classifier.h"
#include "self_test.h"

alignas(16) static std::uint8_t arena[classifier::kArenaSize];

int AppBegin(void) { return classifier::Begin(arena, sizeof(arena)) && classifier::SelfTest(); }

int AppClassify(const unsigned char* frame, int width, int height, int swapped) {
  const auto format = swapped ? classifier::PixelFormat::kRgb565Swapped : classifier::PixelFormat::kRgb565;
  if (!classifier::CameraToTensor({frame, width, height, format}, classifier::Input())) return -1;
  const classifier::OutputValue* const scores = classifier::Run();
  return scores == nullptr ? -1 : classifier::Best(scores);
}

const char* AppLabel(int label) { return classifier::kLabels[label]; }
