// Runs the self-test on an ESP32-S3. With a camera, continue with CameraToTensor, Run and Best, as in README.md.
#include <cstdint>
#include <cstdio>

#include "classifier.h"
#include "esp_heap_caps.h"
#include "self_test.h"

extern "C" void app_main() {
  // Prefers RAM in the chip, which is faster, to PSRAM.
  void* const arena = heap_caps_aligned_alloc(16, classifier::kArenaSize, MALLOC_CAP_INTERNAL | MALLOC_CAP_8BIT);
  void* const other = arena ? arena : heap_caps_aligned_alloc(16, classifier::kArenaSize, MALLOC_CAP_SPIRAM);
  if (other == nullptr) {
    std::printf("not enough RAM for an arena of %d bytes\n", static_cast<int>(classifier::kArenaSize));
    return;
  }
  if (classifier::Begin(static_cast<std::uint8_t*>(other), classifier::kArenaSize)) classifier::SelfTest();
}
