// Counts the ops that are added, and logs their names.
#pragma once
#include "tensorflow/lite/micro/micro_log.h"

enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };

namespace tflite {
struct MicroOpResolver {};

template <unsigned int kSize>
struct MicroMutableOpResolver : MicroOpResolver {
  unsigned int size = 0;
  TfLiteStatus Add(const char* name) {
    if (size == kSize) return kTfLiteError;
    ++size;
    MicroPrintf("op %s", name);
    return kTfLiteOk;
  }
  TfLiteStatus AddConcatenation() { return Add("CONCATENATION"); }
  TfLiteStatus AddConv2D() { return Add("CONV_2D"); }
  TfLiteStatus AddDepthwiseConv2D() { return Add("DEPTHWISE_CONV_2D"); }
  TfLiteStatus AddFullyConnected() { return Add("FULLY_CONNECTED"); }
  TfLiteStatus AddMean() { return Add("MEAN"); }
  TfLiteStatus AddPad() { return Add("PAD"); }
  TfLiteStatus AddQuantize() { return Add("QUANTIZE"); }
  TfLiteStatus AddSoftmax() { return Add("SOFTMAX"); }
};
}  // namespace tflite
