// Logs as TensorFlow Lite Micro does on a computer.
#pragma once
#include <cstdio>
#define MicroPrintf(...) (std::fprintf(stderr, __VA_ARGS__), std::fputc('\n', stderr))
