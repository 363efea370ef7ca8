// As much of TensorFlow Lite's header as the exported projects use.
#pragma once
#define TFLITE_SCHEMA_VERSION 3
namespace tflite {
struct Model {
  unsigned int version() const { return TFLITE_SCHEMA_VERSION; }
};
inline const Model* GetModel(const void* data) { return static_cast<const Model*>(data); }
}  // namespace tflite
