// Functions to call from the main() of STM32CubeMX.
#ifndef APP_H_
#define APP_H_

#ifdef __cplusplus
extern "C" {
#endif

// Call once, after the clocks and the UART are set up. Returns 1 if the self-test passed, 0 if it failed.
int AppBegin(void);

// Classifies an RGB565 frame, as the camera interface (DCMI) stores it; returns the class, or -1 if that failed.
// `swapped`: whether red is in the second byte.
int AppClassify(const unsigned char* frame, int width, int height, int swapped);

// The name of a class.
const char* AppLabel(int label);

#ifdef __cplusplus
}
#endif

#endif  // APP_H_
