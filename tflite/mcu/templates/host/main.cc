// Runs the self-test on this computer.
#include <cstdint>

#include "classifier.h"
#include "self_test.h"

alignas(16) static std::uint8_t arena[classifier::kArenaSize];

int main() { return classifier::Begin(arena, sizeof(arena)) && classifier::SelfTest() ? 0 : 1; }
