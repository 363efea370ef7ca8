// An interpreter that stores its input in the file "seen" and answers with the file "answer"; its arena holds both.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdio>

#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/schema/schema_generated.h"

struct TfLiteTensor {
  union {
    char* raw;
  } data;
  std::size_t bytes;
};

namespace tflite {
class MicroInterpreter {
 public:
  MicroInterpreter(const Model*, const MicroOpResolver&, std::uint8_t* arena, std::size_t size) : size_(size) {
    input_.bytes = STUB_INPUT_BYTES;
    output_.bytes = STUB_OUTPUT_BYTES;
    input_.data.raw = reinterpret_cast<char*>(arena);
    output_.data.raw = input_.data.raw + input_.bytes;
  }
  TfLiteStatus AllocateTensors() { return size_ < arena_used_bytes() ? kTfLiteError : kTfLiteOk; }
  TfLiteTensor* input(std::size_t) { return &input_; }
  TfLiteTensor* output(std::size_t) { return &output_; }
  TfLiteStatus Invoke() {
    std::FILE* seen = std::fopen("seen", "wb");
    std::FILE* answer = std::fopen("answer", "rb");
    if (!seen || !answer) return kTfLiteError;
    const bool done = std::fwrite(input_.data.raw, 1, input_.bytes, seen) == input_.bytes &&
                      std::fread(output_.data.raw, 1, output_.bytes, answer) == output_.bytes;
    std::fclose(seen);
    std::fclose(answer);
    return done ? kTfLiteOk : kTfLiteError;
  }
  std::size_t arena_used_bytes() const { return input_.bytes + output_.bytes; }

 private:
  TfLiteTensor input_, output_;
  std::size_t size_;
};
}  // namespace tflite
