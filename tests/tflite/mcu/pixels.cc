// Turns a frame from standard input into the network's input on standard output: pixels WIDTH HEIGHT FORMAT.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "camera.h"

int main(int, char** arguments) {
  using namespace classifier;
  const int width = std::atoi(arguments[1]), height = std::atoi(arguments[2]), format = std::atoi(arguments[3]);
  std::vector<std::uint8_t> pixels(3 * width * height + 1);
  pixels.resize(std::fread(pixels.data(), 1, pixels.size(), stdin));
  std::vector<InputValue> tensor(kWidth * kHeight * kChannels);
  if (!CameraToTensor({pixels.data(), width, height, static_cast<PixelFormat>(format)}, tensor.data())) return 1;
  return std::fwrite(tensor.data(), 1, tensor.size(), stdout) == tensor.size() ? 0 : 2;
}
