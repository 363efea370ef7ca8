"""The report of a fine-tuning, an HTML page: accuracy, confusion matrix, files, and next steps."""

import math
import os
from collections.abc import Mapping, Sequence
from html import escape

from fd_keras.io import printable, write_atomically
from fd_keras.training import html_page
from fd_keras.training.finetune import metrics, page_confusion, page_photos
from fd_keras.training.finetune.metrics import ClassMetrics
from fd_keras.training.finetune.page_style import STYLE
from fd_keras.training.finetune.results import (
    EXPLANATIONS,
    Candidate,
    ClassCount,
    FileFacts,
    FinetuneResults,
    Measured,
)
from fd_keras.training.finetune.snippets import Snippet, snippets

_UNKNOWN = "–"
_FILE_FACTS = (
    "file",
    "size",
    "working memory on a microcontroller",
    "top-1 on held-out photos",
    "held-out photos with the same class as from the Keras model",
    "held-out photos with a tie for the first class",
    "time per image on this machine, one thread",
)
_SECTIONS = {
    "files": "Files",
    "classes": "Classes",
    "photos": "Photos",
    "training": "Training",
    "next": "Next steps",
}


def write(path: str, results: FinetuneResults) -> None:
    """Writes the report.

    Args:
        path: Path of the .html file.
        results: Results to show. Missing or broken photos are replaced by a note.

    Raises:
        OSError: If the file cannot be written.
    """
    write_atomically(path, html(results).encode("utf-8", "backslashreplace"))


def html(results: FinetuneResults) -> str:
    """Returns the report as HTML."""
    measured, names = results.chosen.measured, [count.name for count in results.counts]
    matrix = metrics.confusion_matrix(measured)
    links = "".join(f'<a href="#{anchor}">{title}</a>' for anchor, title in _SECTIONS.items())
    body = f"""<main>
<h1>{escape(results.network)} for {len(names)} classes</h1>
<p class="soft">Fine-tuned on the photos in {html_page.name(results.photos)},
{results.image_size} x {results.image_size} pixels.</p>
{_headline(results)}
{_warnings(results.warnings)}
{_figures(results)}
<nav aria-label="Sections">{links}</nav>
{_files(results)}
{_section("classes")}
{_classes(results.counts, metrics.class_metrics(matrix), results.how_measured)}
<h3>Confusion matrix</h3>
{page_confusion.confusion(matrix, names)}
{_section("photos")}
<h3>Most confident mistakes</h3>
<p class="soft">True class → predicted class. Photos in the wrong folder appear here first. The squares are the crops
that the network receives.</p>
{page_photos.confident_mistakes(measured, names)}
<h3>Least certain</h3>
<p class="soft">Photos whose two best classes have almost equal probabilities. More photos like these help most.</p>
{page_photos.least_certain(measured, names)}
<h3>Inspection of the photos</h3>
{_listed(results.notes) or "<p>Nothing unusual.</p>"}
{_section("training")}
{_candidates(results)}
<p>{escape(printable(results.trained_on))}</p>
{_facts("Settings", results.settings)}
<h3>Command</h3>
{_code(results.command)}
{_facts("Versions", results.versions)}
{_section("next")}
{_next(results.next_commands)}
<h3>Code to copy</h3>
{"".join(map(_snippet, snippets(results)))}
</main>"""
    return html_page.document(f"{results.network}: {results.photos}", body, STYLE)


def _section(anchor: str) -> str:
    return f'<h2 id="{anchor}">{_SECTIONS[anchor]}</h2>'


def _percent(share: float) -> str:
    return _UNKNOWN if math.isnan(share) else f"{100 * share:.1f}%"


def _interval(measured: Measured) -> str:
    low, high = metrics.wilson_interval(measured.hits, len(measured.labels))
    return f"{100 * low:.1f} to {100 * high:.1f}"


def _headline(results: FinetuneResults) -> str:
    """Returns the result in one sentence, with the simplest baselines."""
    measured = results.chosen.measured
    label, share = metrics.majority(measured, results.counts)
    return (
        f'<p class="lead"><b>Top-1 {_percent(measured.top1)}</b> (95% interval {_interval(measured)}) '
        f"{escape(printable(results.how_measured))}; {_rivals(results)}always predicting the most frequent class, "
        f"{html_page.name(results.counts[label].name)}, {_percent(share)}.</p>"
    )


def _rivals(results: FinetuneResults) -> str:
    """Returns the accuracy of the linear head or of the other candidate, for the headline."""
    head, others = results.linear_head, [candidate for candidate in results.candidates if not candidate.chosen]
    if head is None:
        return ""
    if not head.chosen:
        return f"a linear head reaches {_percent(head.measured.top1)}, "
    if not others:
        return "this is a linear head; "
    best = max(others, key=lambda candidate: candidate.measured.hits)
    text = f"this is a linear head, {escape(printable(best.title))} reaches {_percent(best.measured.top1)}"
    if head.compared is not None:  # the headline's photos are more
        text += f" on {len(best.measured.labels)} held-out photos, where the linear head has "
        text += _percent(head.compared.top1)
    return f"{text}, "


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    return f'<div class="warnings" role="note"><strong>Limits of this result</strong>{_listed(warnings)}</div>'


def _listed(sentences: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(printable(sentence))}</li>" for sentence in sentences)
    return f"<ul>{items}</ul>" if sentences else ""


def _figures(results: FinetuneResults) -> str:
    measured = results.chosen.measured
    items = [(_percent(measured.top1), "top-1")]
    if (top5 := metrics.top5(measured)) is not None:
        items.append((_percent(top5), "top-5"))
    if results.files:
        file = min(results.files, key=lambda file: file.size_bytes)
        items.append((f"{file.size_bytes / 1000:,.0f} kB", f"{file.recipe} file"))
        items.append((f"{file.milliseconds:.2f} ms", "per image, on this machine"))
        if file.ram_bytes is not None:
            items.append((f"{file.ram_bytes / 1024:,.0f} KiB", "of RAM on a microcontroller"))
    return html_page.figures(items)


def _files(results: FinetuneResults) -> str:
    """Returns the files side by side, with a row for each fact that is known for at least one of them."""
    columns = [_file(file) for file in results.files]
    rows = [[title, *(column[title] for column in columns)] for title in _FILE_FACTS]
    known = [row for row in rows if any(cell != _UNKNOWN for cell in row[1:])]
    heads = ["", *(escape(printable(file.recipe)) for file in results.files)]
    return f"""{_section("files")}
{html_page.table("Files for devices", heads, known, "files") if columns else ""}
<p class="soft">All files are in {html_page.name(results.output_dir)}. They were converted from
<code>{escape(printable(results.keras_file))}</code>: {results.macs / 1e6:,.1f} million multiply-accumulates per image,
{results.parameters:,} parameters.</p>"""


def _file(file: FileFacts) -> dict[str, str]:
    """Formats the facts of a file, by the titles in `_FILE_FACTS`."""
    facts = (
        f"<code>{escape(printable(os.path.basename(file.path)))}</code>",
        f"{file.size_bytes / 1000:,.0f} kB",
        _UNKNOWN if file.ram_bytes is None else f"{file.ram_bytes / 1024:,.1f} KiB",
        _UNKNOWN if file.top1 is None else _percent(file.top1),
        f"{file.agreement:.1f}%",
        str(file.ties),
        f"{file.milliseconds:.2f} ms",
    )
    return dict(zip(_FILE_FACTS, facts, strict=True))


def _classes(counts: Sequence[ClassCount], measured: Sequence[ClassMetrics], how_measured: str) -> str:
    rows = [
        [_clipped(count.name), str(count.train), str(count.held_out), *map(_share, shares)]
        for count, one in zip(counts, measured, strict=True)
        for shares in [(one.precision, one.recall, one.f1)]
    ]
    heads = ("class", "trained on", "held out", "precision", "recall", "F1")
    table = html_page.table("Photos, precision and recall of each class", heads, rows)
    if len(counts) > page_confusion.MOST_CLASSES:
        table = f"<details><summary>All {len(counts)} classes</summary>{table}</details>"
    return f"""<p class="soft">Precision: share of the predictions of the class that are correct. Recall: share of the
photos of the class that are recognized. They and the confusion matrix were measured
{escape(printable(how_measured))}.</p>
{table}"""


def _clipped(name: str) -> str:
    """Returns a class name, limited to a few lines."""
    return f'<span class="clip" title="{escape(printable(name))}">{html_page.name(name)}</span>'


def _share(share: float) -> str:
    """Formats a value from 0 to 1 as a percentage with a bar behind it."""
    return f'<span class="share" style="--w:{0 if math.isnan(share) else 100 * share:.0f}%">{_percent(share)}</span>'


def _candidates(results: FinetuneResults) -> str:
    rows = [_candidate(candidate) for candidate in results.candidates]
    held_out = len(results.candidates[0].on_held_out.labels)
    table = html_page.table("Candidates", ("", "top-1", "95% interval"), rows, "tried")
    return f"<h3>Candidates on {held_out} held-out photos</h3>{_explained(results)}{table}{_comparison(results)}"


def _explained(results: FinetuneResults) -> str:
    """Explains the terms in the table of candidates."""
    known = [
        (one.title.capitalize(), EXPLANATIONS[one.title]) for one in results.candidates if one.title in EXPLANATIONS
    ]
    terms = [("Top-1", "share of the photos whose most probable class is the right one"), *known]
    return f'<p class="soft">{" ".join(f"{term}: {meaning}." for term, meaning in terms)}</p>'


def _candidate(candidate: Candidate) -> list[str]:
    measured = candidate.on_held_out
    title = escape(printable(candidate.title))
    title = f"<strong>{title}</strong>, kept" if candidate.chosen else title
    return [title, _percent(measured.top1), _interval(measured) + _range(measured)]


def _range(measured: Measured) -> str:
    """Draws an accuracy and its interval on an axis from 0 to 100%, as SVG."""
    low, high = (100 * end for end in metrics.wilson_interval(measured.hits, len(measured.labels)))
    return (
        '<svg class="interval" viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">'
        f'<line x1="0" y1="6" x2="100" y2="6"/><line class="range" x1="{low:.1f}" y1="6" x2="{high:.1f}" y2="6"/>'
        f'<line class="mean" x1="{100 * measured.top1:.1f}" y1="2" x2="{100 * measured.top1:.1f}" y2="10"/></svg>'
    )


def _comparison(results: FinetuneResults) -> str:
    """Compares the chosen candidate with the linear head, photo by photo, or explains why the head was chosen."""
    head = results.linear_head
    if head is not None and head.chosen and len(results.candidates) > 1:
        rule = "another candidate recognizes more held-out photos, at least two more if few are held out"
        return f"<p>The linear head is kept unless {rule}.</p>"
    pair = None if head is None or head.chosen else metrics.discordant(results.chosen.measured, head.measured)
    if pair is None:
        return ""
    title = escape(printable(results.chosen.title))
    return f"<p>Photos recognized by only one of both: {title} {pair[0]}, linear head {pair[1]}.</p>"


def _facts(title: str, facts: Mapping[str, str]) -> str:
    rows = [[escape(printable(name)), escape(printable(value))] for name, value in facts.items()]
    table = html_page.table(title, ("name", "value"), rows, "words")
    return f"<details><summary>{title}</summary>{table}</details>" if rows else ""


def _next(commands: Sequence[tuple[str, str]]) -> str:
    return "".join(f"<p>{escape(printable(purpose))}</p>{_code(command)}" for purpose, command in commands)


def _snippet(snippet: Snippet) -> str:
    return (
        f"<details><summary>{escape(snippet.title)}</summary><p>{escape(printable(snippet.note))}</p>"
        f"{_code(snippet.code)}</details>"
    )


def _code(code: str) -> str:
    """Returns a block of code that a click selects completely."""
    return f'<pre tabindex="0"><code>{escape(code.strip())}</code></pre>'
