import dataclasses

from fd_keras.tflite.recipes import RECIPES, Int8Settings
from fd_keras.tflite.verification import ablation
from fd_keras.tflite.verification.compare import compare, keras_classifier, tflite_classifier
from fd_keras.tflite.verification.evaluation_set import EvaluationSet


def test_steps_add_up_to_the_recipe():
    (first, plain), *rows = ablation.stages()
    assert plain == RECIPES["int8_plain"]
    assert rows[-1][1] == RECIPES["int8"]
    fields = [field.name for field in dataclasses.fields(Int8Settings)]
    for (_, before), (title, after) in zip(rows, rows[1:], strict=False):
        changed = [name for name in fields if getattr(before.settings, name) != getattr(after.settings, name)]
        assert len(changed) == 1, title


def test_ablation_measures_every_step(monkeypatch, tiny, calibration, convert_tiny, images, tmp_path, save_images):
    """Two rows are enough; the last one is the recipe itself."""
    rows = ablation.stages()
    monkeypatch.setattr(ablation, "stages", lambda: [rows[0], rows[-1]])
    folder = save_images(tmp_path / "photos", images[:20])
    photos = EvaluationSet.load(str(folder), None, images.shape[1:3], 4, resize=False)
    found = ablation.ablation(tiny, calibration, photos, True)
    head, keras_row, *table, foot = ablation.ablation_table(found).splitlines()
    assert [line.split("  ")[0] for line in table] == [rows[0][0], rows[-1][0]]
    assert "20 images" in foot
    classifiers = [tflite_classifier(convert_tiny(recipe), 1) for recipe in ("int8_plain", "int8")]
    results = compare(keras_classifier(tiny), classifiers, photos.batches())
    for line, result in zip((keras_row, *table), results, strict=True):
        assert line.split()[-2:] == [f"{result.percentages()['agreement']:.2f}", str(result.ties)]
    ablation.ablation_plot(str(tmp_path / "steps.svg"), found)
    assert all(row["title"] in (tmp_path / "steps.svg").read_text() for row in found[1:])
