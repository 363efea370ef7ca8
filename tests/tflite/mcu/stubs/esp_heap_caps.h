// As much of ESP-IDF's header as the exported projects use.
#pragma once
#include <cstdint>
#include <cstdlib>
constexpr std::uint32_t MALLOC_CAP_8BIT = 4, MALLOC_CAP_SPIRAM = 1024, MALLOC_CAP_INTERNAL = 2048;
inline void* heap_caps_aligned_alloc(std::size_t alignment, std::size_t size, std::uint32_t) {
  return std::aligned_alloc(alignment, size);
}
