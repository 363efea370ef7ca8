"""Code templates with placeholders for the names and sizes of a model, filled by `snippets`."""

from fd_keras.source_code import AtTemplate

PYTHON_LITERT = AtTemplate("""\
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
    \"\"\"Reads the center of an upright photo, cropped as in evaluation; uint8 of shape (1, SIZE, SIZE, 3).\"\"\"
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
    if scale:  # quantized probabilities
        probabilities = scale * (probabilities - zero_point)
    print(path)
    for label in np.argsort(-probabilities, kind="stable")[:5]:
        print(f"  {probabilities[label]:6.1%}  {CLASSES[label]}")
""")

PYTHON_KERAS = AtTemplate("""\
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

KOTLIN_LITERT = AtTemplate("""\
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

    /** Returns the center of a photo as RGB, resized and cropped as in evaluation. */
    private fun pixels(photo: Bitmap): ByteArray {
        val side = SIZE * @resize / @crop
        var image = photo
        while (minOf(image.width, image.height) >= 2 * side) { // Android only averages 2 x 2 pixels
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
KOTLIN_TYPES = {
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

KOTLIN_MEDIAPIPE = AtTemplate("""\
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

    /** Returns the central square used in evaluation, which MediaPipe resizes. */
    private fun center(photo: Bitmap): Bitmap {
        val side = minOf(photo.width, photo.height) * @crop / @resize
        return Bitmap.createBitmap(photo, (photo.width - side) / 2, (photo.height - side) / 2, side, side)
    }

    override fun close() = classifier.close()
}
""")

CPP = AtTemplate("""\
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

// Computes the probabilities of the classes.
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
CPP_TYPES = {
    "int8": {"type": "std::uint8_t", "levels": "256"},
    "float32": {"type": "float", "levels": "1"},
}

MICROCONTROLLER = AtTemplate("""\
fd-keras memory @shell_path --ram=256KiB --flash=512KiB
fd-keras export-mcu @shell_path --output_dir=@project
""")
