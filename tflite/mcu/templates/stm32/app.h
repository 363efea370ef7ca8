// What the main() of STM32CubeMX calls.
#ifndef APP_H_
#define APP_H_

#ifdef __cplusplus
extern "C" {
#endif

// Once, after the clocks and the UART are set up. 1: the self-test passed; 0: it failed.
int AppBegin(void);

// The class of a frame of RGB565 as the camera interface (DCMI) stores it, or -1. `swapped`: red is in the second byte.
int AppClassify(const unsigned char* frame, int width, int height, int swapped);

// Its name.
const char* AppLabel(int label);

#ifdef __cplusplus
}
#endif

#endif  // APP_H_
