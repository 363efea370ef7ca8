"""Code that classifies photos with the files of a fine-tuning, to be copied: real file names, real class names."""

import dataclasses
import os
import shlex
import string
from collections.abc import Sequence

from fd_keras import imagenet
from fd_keras.io import identifier
from fd_keras.training.finetune.results import FileFacts, Results

_WIDTH = 88  # of a line with class names


@dataclasses.dataclass(frozen=True)
class Snippet:
    """Code to copy.

    Attributes:
        title: What it is for.
        note: What it needs and where it goes, a sentence or two.
        language: "python", "kotlin", "cpp" or "shell".
        code: The code.
    """

    title: str
    note: str
    language: str
    code: str


class _Template(string.Template):
    delimiter = "@"  # none of the languages below has it


_PYTHON_LITERT = _Template("""\
# python classify.py photo.jpg ...
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps

MODEL = @path
SIZE = @size
CLASSES = [
    @classes,
]


def load(path):
    \"\"\"The center of an upright photo, cropped as in the measurements; uint8 of shape (1, SIZE, SIZE, 3).\"\"\"
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    side, short = SIZE * @resize // @crop, min(image.size)
    image = image.resize((side * image.width // short, side * image.height // short), Image.Resampling.BILINEAR)
    left, top = round((image.width - SIZE) / 2), round((image.height - SIZE) / 2)
    return np.asarray(image.crop((left, top, left + SIZE, top + SIZE)))[None]


interpreter = Interpreter(model_path=MODEL)
interpreter.allocate_tensors()
image, scores = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

for path in sys.argv[1:]:
    interpreter.set_tensor(image["index"], load(path).astype(image["dtype"]))
    interpreter.invoke()
    probabilities = interpreter.get_tensor(scores["index"])[0].astype("float32")
    scale, zero_point = scores["quantization"]
    if scale:  # integers stand for probabilities
        probabilities = scale * (probabilities - zero_point)
    print(path)
    for label in np.argsort(-probabilities, kind="stable")[:5]:
        print(f"  {probabilities[label]:6.1%}  {CLASSES[label]}")
""")

_PYTHON_KERAS = _Template("""\
# python classify.py photo.jpg ...
import sys

import numpy as np
from fd_keras.imagenet import load_image
from fd_keras.saved import load_model

CLASSES = [
    @classes,
]

model = load_model(@path)
photos = sys.argv[1:]
images = np.stack([load_image(photo, (@size, @size), upright=True) for photo in photos]).astype("float32")

for photo, probabilities in zip(photos, model.predict(images, verbose=0)):
    print(photo)
    for label in np.argsort(-probabilities, kind="stable")[:5]:
        print(f"  {probabilities[label]:6.1%}  {CLASSES[label]}")
""")

_KOTLIN_LITERT = _Template("""\
import android.content.Context
import android.graphics.Bitmap
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import kotlin.math.round

private const val MODEL = @file
private const val SIZE = @size
private val CLASSES = listOf(
    @classes
)

class Classifier(context: Context) : AutoCloseable {
    private val model = CompiledModel.create(context.assets, MODEL, CompiledModel.Options(Accelerator.CPU))
    private val inputs = model.createInputBuffers()
    private val outputs = model.createOutputBuffers()

    /** Classes with their probabilities, the most probable first. */
    fun classify(photo: Bitmap): List<Pair<String, Float>> {
        @write
        model.run(inputs, outputs)
        val scores = outputs[0].@read
        return CLASSES.indices.map { CLASSES[it] to @probability }
            .sortedByDescending { it.second }
    }

    /** The center of a photo as RGB, resized and cropped as in the measurements. */
    private fun pixels(photo: Bitmap): ByteArray {
        val side = SIZE * @resize / @crop
        var image = photo
        while (minOf(image.width, image.height) >= 2 * side) { // Android averages 2 x 2 pixels, no more
            image = Bitmap.createScaledBitmap(image, image.width / 2, image.height / 2, true)
        }
        val short = minOf(image.width, image.height)
        image = Bitmap.createScaledBitmap(image, side * image.width / short, side * image.height / short, true)
        val left = round((image.width - SIZE) / 2.0).toInt()
        val top = round((image.height - SIZE) / 2.0).toInt()
        val colors = IntArray(SIZE * SIZE)
        image.getPixels(colors, 0, SIZE, left, top, SIZE, SIZE)
        return ByteArray(3 * SIZE * SIZE) { (colors[it / 3] shr (16 - 8 * (it % 3))).toByte() }
    }

    override fun close() {
        (inputs + outputs).forEach { it.close() }
        model.close()
    }
}
""")
_KOTLIN_TYPES = {
    "int8": {
        "write": "inputs[0].writeInt8(pixels(photo))",
        "read": "readInt8()",
        "probability": "(scores[it].toInt() and 0xFF) / 256f",
    },
    "float32": {
        "write": "inputs[0].writeFloat(pixels(photo).map { (it.toInt() and 0xFF).toFloat() }.toFloatArray())",
        "read": "readFloat()",
        "probability": "scores[it]",
    },
}

_KOTLIN_MEDIAPIPE = _Template("""\
import android.content.Context
import android.graphics.Bitmap
import com.google.mediapipe.framework.image.BitmapImageBuilder
import com.google.mediapipe.tasks.core.BaseOptions
import com.google.mediapipe.tasks.vision.imageclassifier.ImageClassifier
import com.google.mediapipe.tasks.vision.imageclassifier.ImageClassifier.ImageClassifierOptions

private const val MODEL = @file

class Classifier(context: Context) : AutoCloseable {
    private val classifier = ImageClassifier.createFromOptions(
        context,
        ImageClassifierOptions.builder()
            .setBaseOptions(BaseOptions.builder().setModelAssetPath(MODEL).build())
            .setMaxResults(5)
            .build()
    )

    /** Classes with their probabilities, the most probable first. */
    fun classify(photo: Bitmap): List<Pair<String, Float>> {
        val result = classifier.classify(BitmapImageBuilder(center(photo)).build())
        return result.classificationResult().classifications()[0].categories()
            .map { it.categoryName() to it.score() }
    }

    /** The central square that the measurements are of; MediaPipe resizes it. */
    private fun center(photo: Bitmap): Bitmap {
        val side = minOf(photo.width, photo.height) * @crop / @resize
        return Bitmap.createBitmap(photo, (photo.width - side) / 2, (photo.height - side) / 2, side, side)
    }

    override fun close() = classifier.close()
}
""")

_CPP = _Template("""\
// convert photo.jpg -filter Triangle -resize @{side}x@{side}^ -gravity center \\
//     -extent @{size}x@{size} -depth 8 rgb:- | ./classify
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <numeric>
#include <vector>

#include "absl/types/span.h"
#include "litert/cc/litert_common.h"
#include "litert/cc/litert_compiled_model.h"
#include "litert/cc/litert_environment.h"
#include "litert/cc/litert_macros.h"

constexpr char kModel[] = @path;
constexpr std::size_t kPixels = @size * @size * 3;  // RGB
const std::vector<const char*> kClasses = {
    @classes
};

// Probabilities of the classes.
litert::Expected<std::vector<float>> Classify(const std::vector<@type>& pixels) {
  LITERT_ASSIGN_OR_RETURN(auto environment, litert::Environment::Create({}));
  LITERT_ASSIGN_OR_RETURN(
      auto model, litert::CompiledModel::Create(environment, kModel, litert::HwAccelerators::kCpu));
  LITERT_ASSIGN_OR_RETURN(auto inputs, model.CreateInputBuffers());
  LITERT_ASSIGN_OR_RETURN(auto outputs, model.CreateOutputBuffers());
  LITERT_RETURN_IF_ERROR(inputs[0].Write<@type>(absl::MakeConstSpan(pixels)));
  LITERT_RETURN_IF_ERROR(model.Run(inputs, outputs));
  std::vector<@type> scores(kClasses.size());
  LITERT_RETURN_IF_ERROR(outputs[0].Read<@type>(absl::MakeSpan(scores)));
  std::vector<float> probabilities(scores.begin(), scores.end());
  for (float& probability : probabilities) probability /= @levels;
  return probabilities;
}

int main() {
  std::vector<std::uint8_t> pixels(kPixels);
  if (std::fread(pixels.data(), 1, kPixels, stdin) != kPixels) return 2;
  auto probabilities = Classify({pixels.begin(), pixels.end()});
  if (!probabilities) {
    std::fprintf(stderr, "%s\\n", probabilities.Error().Message().c_str());
    return 1;
  }
  std::vector<int> order(kClasses.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return (*probabilities)[a] > (*probabilities)[b]; });
  for (int label : order) std::printf("%5.1f%%  %s\\n", 100 * (*probabilities)[label], kClasses[label]);
}
""")
_CPP_TYPES = {
    "int8": {"type": "std::uint8_t", "levels": "256"},
    "float32": {"type": "float", "levels": "1"},
}

_C_ARRAY = _Template("""\
fd-keras memory @shell_path --ram=256KiB --flash=512KiB
python -c "import sys; from fd_keras.tflite.memory import c_array; print(*c_array.write_c_array(sys.argv[1]))" \\
    @shell_path
""")
_TFLM = _Template("""\
#include <cstdint>

#include "@stem.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace net = @space;
const char* const kClasses[] = {
    @classes
};
alignas(16) static uint8_t arena[net::kArenaSize];

// The most probable class of RGB pixels (@size x @size x 3 bytes), or -1 if the network cannot run.
int Classify(const uint8_t* pixels) {
  static tflite::MicroMutableOpResolver<net::kOpCount> resolver;
  static const bool added = net::AddOps(resolver);
  static tflite::MicroInterpreter interpreter(tflite::GetModel(net::kModel), resolver, arena, net::kArenaSize);
  static const bool ready = added && interpreter.AllocateTensors() == kTfLiteOk;
  if (!ready) return -1;
  for (int i = 0; i < @size * @size * 3; ++i) interpreter.input(0)->data.uint8[i] = pixels[i];
  if (interpreter.Invoke() != kTfLiteOk) return -1;
  const uint8_t* scores = interpreter.output(0)->data.uint8;  // 256 would be 100%
  int best = 0;
  for (int i = 1; i < @count; ++i) {
    if (scores[i] > scores[best]) best = i;
  }
  return best;
}
""")

_BITMAP = "Give it upright photos as software bitmaps (ARGB_8888)."


def snippets(results: Results) -> list[Snippet]:
    """The code for each place where the files can run; it takes the int8 file if there is one."""
    file = next((file for file in results.files if file.recipe == "int8"), next(iter(results.files), None))
    keras = Snippet(
        "Python with Keras",
        "pip install fd-keras. Slower to start and to run; for comparing, or training on.",
        "python",
        _filled(_PYTHON_KERAS, results, results.keras_file, repr),
    )
    return [keras] if file is None else [*_for_file(results, file, keras), *_for_microcontroller(results, file)]


def _for_file(results: Results, file: FileFacts, keras: Snippet) -> list[Snippet]:
    assets = f"Put {os.path.basename(file.path)} into app/src/main/assets/."
    recipe = file.recipe if file.recipe in _KOTLIN_TYPES else "float32"
    kotlin = _filled(_KOTLIN_LITERT, results, file.path, _kotlin_text, **_KOTLIN_TYPES[recipe])
    return [
        Snippet(
            "Python with LiteRT",
            "pip install ai-edge-litert numpy pillow. For a Raspberry Pi, a server or a first try; needs neither "
            "TensorFlow nor this package.",
            "python",
            _filled(_PYTHON_LITERT, results, file.path, repr),
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
            _filled(_KOTLIN_MEDIAPIPE, results, file.path, _kotlin_text),
        ),
        Snippet(
            "C++ with LiteRT",
            "C++20, with LiteRT's C++ SDK and libLiteRt.so of the same release: link litert_cc_api. Pixels come from "
            "standard input.",
            "cpp",
            _filled(_CPP, results, file.path, _cpp_text, **_CPP_TYPES[recipe]),
        ),
    ]


def _for_microcontroller(results: Results, file: FileFacts) -> list[Snippet]:
    if file.recipe != "int8":
        return []
    return [
        Snippet(
            "Microcontroller: does it fit, and a C++ array",
            "Set what your board has to spare. The second command writes a .h and a .cc beside the file.",
            "shell",
            _filled(_C_ARRAY, results, file.path, repr),
        ),
        Snippet(
            "Microcontroller: C++ with TensorFlow Lite Micro",
            "With the two files that the command above wrote.",
            "cpp",
            _filled(_TFLM, results, file.path, _cpp_text),
        ),
    ]


def _filled(template: _Template, results: Results, path: str, literal, **more: str) -> str:
    """A template with the facts of a model; `literal` writes a text in the language."""
    stem = os.path.splitext(os.path.basename(path))[0]
    return template.substitute(
        path=literal(path),
        file=literal(os.path.basename(path)),
        shell_path=shlex.quote(path),
        stem=stem,
        space=identifier(stem),
        size=str(results.image_size),
        side=str(results.image_size * imagenet.RESIZE // imagenet.SIZE),
        resize=str(imagenet.RESIZE),
        crop=str(imagenet.SIZE),
        count=str(len(results.counts)),
        classes=_listed([literal(count.name) for count in results.counts]),
        **more,
    )


def _listed(items: Sequence[str], indent: str = "    ") -> str:
    """Items with commas between them, as many on a line as fit."""
    lines = [items[0]]
    for item in items[1:]:
        if len(indent) + len(lines[-1]) + len(item) + 3 > _WIDTH:
            lines[-1] += ","
            lines.append(item)
        else:
            lines[-1] += f", {item}"
    return f"\n{indent}".join(lines)


def _kotlin_text(text: str) -> str:
    """A text as a literal of Kotlin."""
    return '"' + "".join(map(_kotlin_character, text)) + '"'


def _kotlin_character(character: str) -> str:
    if character in '"\\$':
        return f"\\{character}"
    if character.isprintable():
        return character
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


def _cpp_text(text: str) -> str:
    """A text as a literal of C++, in UTF-8."""
    return '"' + "".join(_cpp_character(character) for character in text) + '"'


def _cpp_character(character: str) -> str:
    if character in '"\\?':  # two question marks would begin a trigraph
        return f"\\{character}"
    if character.isprintable():
        return character
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", "surrogateescape"))
