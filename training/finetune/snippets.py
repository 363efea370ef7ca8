"""Code snippets that classify photos with the files of a fine-tuning, with real file and class names."""

import dataclasses
import os
import shlex

from fd_keras import imagenet
from fd_keras.source_code import AtTemplate, cpp_text, listed
from fd_keras.training.finetune import snippet_templates
from fd_keras.training.finetune.results import FileFacts, FinetuneResults


@dataclasses.dataclass(frozen=True)
class Snippet:
    """A code snippet.

    Attributes:
        title: Title, such as "Python with LiteRT".
        note: One or two sentences on what it needs and where to put it.
        language: "python", "kotlin", "cpp" or "shell".
        code: Code to copy.
    """

    title: str
    note: str
    language: str
    code: str


_BITMAP = "Pass upright photos as software bitmaps (ARGB_8888)."


def snippets(results: FinetuneResults) -> list[Snippet]:
    """Returns snippets for all platforms that can run the files; uses the int8 file if there is one."""
    file = next((file for file in results.files if file.recipe == "int8"), next(iter(results.files), None))
    keras = Snippet(
        "Python with Keras",
        "With this package installed. Starts and runs more slowly; for comparisons or further training.",
        "python",
        _filled(snippet_templates.PYTHON_KERAS, results, results.keras_file, repr),
    )
    return [keras] if file is None else [*_for_file(results, file, keras), *_for_microcontroller(results, file)]


def _for_file(results: FinetuneResults, file: FileFacts, keras: Snippet) -> list[Snippet]:
    assets = f"Put {os.path.basename(file.path)} into app/src/main/assets/."
    recipe = file.recipe if file.recipe in snippet_templates.KOTLIN_TYPES else "float32"
    kotlin = _filled(
        snippet_templates.KOTLIN_LITERT, results, file.path, _kotlin_text, **snippet_templates.KOTLIN_TYPES[recipe]
    )
    return [
        Snippet(
            "Python with LiteRT",
            "pip install ai-edge-litert numpy pillow. For a Raspberry Pi, a server or a first try; does not need "
            "TensorFlow or this package.",
            "python",
            _filled(snippet_templates.PYTHON_LITERT, results, file.path, repr),
        ),
        keras,
        Snippet(
            "Android: Kotlin with LiteRT",
            f'implementation("com.google.ai.edge.litert:litert:2.3.0") in app/build.gradle.kts. {assets} {_BITMAP}',
            "kotlin",
            kotlin,
        ),
        Snippet(
            "Android: Kotlin with MediaPipe",
            f'implementation("com.google.mediapipe:tasks-vision:latest.release") in app/build.gradle.kts. {assets} '
            f"The class names are inside the file. {_BITMAP}",
            "kotlin",
            _filled(snippet_templates.KOTLIN_MEDIAPIPE, results, file.path, _kotlin_text),
        ),
        Snippet(
            "C++ with LiteRT",
            "C++20, with LiteRT's C++ SDK and libLiteRt.so of the same release: link litert_cc_api. Reads pixels from "
            "standard input.",
            "cpp",
            _filled(snippet_templates.CPP, results, file.path, cpp_text, **snippet_templates.CPP_TYPES[recipe]),
        ),
    ]


def _for_microcontroller(results: FinetuneResults, file: FileFacts) -> list[Snippet]:
    if file.recipe != "int8":
        return []
    return [
        Snippet(
            "Microcontroller: memory and project",
            "Set the free memory of your board. The second command writes a project for TensorFlow Lite Micro with the "
            "network as a C++ array, class names, camera input and a self-test, for CMake, STM32 and ESP32-S3.",
            "shell",
            _filled(snippet_templates.MICROCONTROLLER, results, file.path, repr),
        )
    ]


def _filled(template: AtTemplate, results: FinetuneResults, path: str, literal, **more: str) -> str:
    """Fills a template with the facts of a model; `literal` formats a string in the language."""
    return template.substitute(
        path=literal(os.path.abspath(path)),
        file=literal(os.path.basename(path)),
        shell_path=shlex.quote(path),
        project=shlex.quote(f"{os.path.splitext(path)[0]}_project"),
        size=str(results.image_size),
        side=str(results.image_size * imagenet.RESIZE // imagenet.SIZE),
        resize=str(imagenet.RESIZE),
        crop=str(imagenet.SIZE),
        classes=listed([literal(count.name) for count in results.counts]),
        **more,
    )


def _kotlin_text(text: str) -> str:
    """Formats a string as a Kotlin literal."""
    return '"' + "".join(map(_kotlin_character, text)) + '"'


def _kotlin_character(character: str) -> str:
    if character in '"\\$':
        return f"\\{character}"
    if character.isprintable():
        return character
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))
