"""Microcontroller boards: their memory and kernel library, and whether a network fits.

RAM sizes are those of the largest contiguous region, since TFLM's arena is contiguous.
"""

import dataclasses

from fd_keras.cli import nearest
from fd_keras.errors import UsageError
from fd_keras.tflite.format.network import FileNetwork
from fd_keras.tflite.memory.arena import plan, tflm_bytes
from fd_keras.tflite.memory.byte_sizes import kib
from fd_keras.tflite.memory.scratch import CMSIS_NN, CMSIS_NN_DSP, ESP_NN, KernelLibrary

_ZEPHYR = "zephyrproject-rtos/zephyr: "
PROGRAM_FLASH = 128 << 10  # bytes of flash, reserved for TFLM's code and the program
RESERVED = "64KiB"  # of RAM: a frame of 160x120 in RGB565 (37.5 KiB), and 26.5 KiB for stack, drivers and variables


@dataclasses.dataclass(frozen=True)
class Board:
    """A microcontroller board.

    Attributes:
        title: Names of the board, the chip and the core.
        sram: Bytes of RAM in the chip.
        flash: Bytes of flash.
        kernels: Kernel library that TFLM uses on the board.
        source: Source of the figures.
        psram: Bytes of external RAM, which is slower; 0 if there is none.
    """

    title: str
    sram: int
    flash: int
    kernels: KernelLibrary
    source: str
    psram: int = 0


BOARDS = {
    "esp32-s3-eye": Board(
        "ESP32-S3-EYE (ESP32-S3)",
        416 << 10,  # SOC_DIRAM_DRAM_LOW to _HIGH, including code that runs from RAM
        8 << 20,
        ESP_NN,
        "espressif/esp-idf: components/soc/esp32s3/include/soc/soc.h; "
        f"{_ZEPHYR}boards/espressif/esp32s3_eye/doc/index.rst",
        psram=8 << 20,
    ),
    "nano-33-ble": Board(
        "Arduino Nano 33 BLE Sense (nRF52840, Cortex-M4)",
        256 << 10,
        1 << 20,
        CMSIS_NN_DSP,
        f"{_ZEPHYR}dts/arm/nordic/nrf52840_qiaa.dtsi",
    ),
    "nicla-vision": Board(
        "Arduino Nicla Vision (STM32H747, its Cortex-M7)",
        512 << 10,
        1 << 20,
        CMSIS_NN_DSP,
        f"{_ZEPHYR}boards/arduino/nicla_vision/arduino_nicla_vision_stm32h747xx_m7.yaml",
    ),
    "nucleo-h743zi": Board(
        "Nucleo-H743ZI (STM32H743, Cortex-M7)",
        512 << 10,
        2 << 20,
        CMSIS_NN_DSP,
        f"{_ZEPHYR}dts/arm/st/h7/stm32h743.dtsi, boards/st/nucleo_h743zi/nucleo_h743zi.yaml",
    ),
    "nucleo-l4r5zi": Board(
        "Nucleo-L4R5ZI (STM32L4R5, Cortex-M4)",
        640 << 10,
        2 << 20,
        CMSIS_NN_DSP,
        f"{_ZEPHYR}boards/st/nucleo_l4r5zi/doc/index.rst",
    ),
    "pico": Board(
        "Raspberry Pi Pico (RP2040, Cortex-M0+)",
        264 << 10,
        2 << 20,
        CMSIS_NN,
        f"{_ZEPHYR}boards/raspberrypi/rpi_pico/doc/index.rst",
    ),
    "pico2": Board(
        "Raspberry Pi Pico 2 (RP2350, Cortex-M33)",
        520 << 10,
        4 << 20,
        CMSIS_NN_DSP,
        f"{_ZEPHYR}boards/raspberrypi/rpi_pico2/doc/index.rst",
    ),
    "stm32f746g-disco": Board(
        "STM32F746G-DISCO (STM32F746, Cortex-M7)",
        320 << 10,  # 64 KiB of DTCM and 256 KiB of SRAM in a row
        1 << 20,
        CMSIS_NN_DSP,
        f"{_ZEPHYR}dts/arm/st/f7/stm32f746.dtsi, boards/st/stm32f746g_disco/doc/index.rst",
        psram=8 << 20,
    ),
}


def get_board(name: str) -> Board:
    """Looks up a board; raises UsageError, listing the known boards, if it is unknown."""
    if name not in BOARDS:
        raise UsageError(f"--board={name}: unknown board{nearest(name, BOARDS)} (there are {', '.join(BOARDS)})")
    return BOARDS[name]


@dataclasses.dataclass(frozen=True)
class BoardFit:
    """The memory that a network needs on a board.

    Attributes:
        board: The board.
        activations: Bytes of the planned activations.
        scratch: Additional arena bytes with the board's kernels, relative to TFLM's own; may be negative.
        tflm: Bytes of TFLM's tables, an upper estimate.
        file: Bytes of the .tflite file.
        reserve: Bytes of the chip's RAM that are reserved for the rest of the program.
    """

    board: Board
    activations: int
    scratch: int
    tflm: int
    file: int
    reserve: int

    @classmethod
    def of(cls, board: Board, network: FileNetwork, file: int, reserve: int) -> "BoardFit":
        """Plans a network for a board."""
        activations = plan(network).arena
        scratch = plan(network, board.kernels).arena - activations
        return cls(board, activations, scratch, tflm_bytes(network), file, reserve)

    @property
    def arena(self) -> int:
        """Bytes of TFLM's arena."""
        return self.activations + self.scratch + self.tflm

    @property
    def free(self) -> tuple[int, int]:
        """Bytes of the chip's RAM and of flash that are available for the network."""
        return free(self.board, self.reserve)

    @property
    def place(self) -> str | None:
        """Memory that the arena fits into: "SRAM", or "PSRAM" if SRAM is too small; None if it fits neither."""
        if self.arena <= self.free[0]:
            return "SRAM"
        return "PSRAM" if self.arena <= self.board.psram else None

    @property
    def fits(self) -> bool:
        """Whether the arena and the file fit."""
        return self.place is not None and self.file <= self.free[1]

    def record(self) -> dict:
        """Converts the needs to data for JSON."""
        board = {key: getattr(self.board, key) for key in ("title", "sram", "psram", "flash", "source")}
        found = {key: getattr(self, key) for key in ("reserve", "scratch", "arena", "place", "fits")}
        return {**board, "kernels": self.board.kernels.title, **found}

    def text(self) -> str:
        """Formats the needs as text."""
        ram, flash = self.free
        lines = [
            f"{self.board.title}, kernels of {self.board.kernels.title}:",
            f"  flash  {_compared(self.file, flash)} ({kib(PROGRAM_FLASH)} kept for the program)",
            f"  SRAM   {_compared(self.arena, ram)} ({kib(self.reserve)} kept for a camera's frame and the stack)",
        ]
        if self.board.psram and self.place != "SRAM":
            lines.append(f"  PSRAM  {_compared(self.arena, self.board.psram)}; slower than SRAM")
        if self.place == "PSRAM" and self.activations + self.scratch <= ram:
            lines.append(
                "  split  the activations fit into SRAM if MicroAllocator::Create gets PSRAM for TFLM's tables"
            )
        if self.place != "SRAM" and ram > self.scratch:
            budget = f"--max_ram={(ram - self.scratch) >> 10}KiB"
            lines.append(f"  to fit into SRAM, convert the network again with {budget}, or use a smaller one")
        return "\n".join(lines)


def free(board: Board, reserve: int) -> tuple[int, int]:
    """Bytes of a board's SRAM and flash that are not reserved for the rest of the program."""
    return max(0, board.sram - reserve), max(0, board.flash - PROGRAM_FLASH)


def _compared(needed: int, limit: int) -> str:
    verdict = "fits" if needed <= limit else f"needs {kib(needed - limit)} more"
    return f"{kib(needed)} of {kib(limit)}: {verdict}"
