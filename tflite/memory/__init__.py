"""RAM and flash of a network on a microcontroller: `fd-keras memory`, explained in docs/microcontrollers.md."""
