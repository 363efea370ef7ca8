"""The section of the report on confused classes."""

from collections.abc import Sequence

import numpy as np

from fd_keras.training import html_page
from fd_keras.training.finetune import metrics

MOST_CLASSES = 30  # maximum number of classes of a matrix; with more, the most confused pairs are listed
_PAIRS = 30
_UPRIGHT = 4  # maximum number of classes for horizontal column titles
_DARKEST = 45  # maximum percentage of color in a cell, so that its number stays readable


def confusion(matrix: np.ndarray, names: Sequence[str]) -> str:
    """Returns the confusion matrix as a table, or the most confused pairs if there are too many classes.

    Args:
        matrix: Confusion matrix from `metrics.confusion_matrix`.
        names: Class names in label order.
    """
    return _matrix(matrix, names) if len(names) <= MOST_CLASSES else _pairs(matrix, names)


def _matrix(matrix: np.ndarray, names: Sequence[str]) -> str:
    heads = "".join(f'<th scope="col"><span>{html_page.name(name)}</span></th>' for name in names)
    body = "".join(_row(label, row, names[label]) for label, row in enumerate(matrix.tolist()))
    table = f"""<table class="{"matrix many" if len(names) > _UPRIGHT else "matrix"}">
<caption class="unseen">Number of photos by true class and predicted class</caption>
<thead><tr><td>true ↓ predicted →</td>{heads}</tr></thead><tbody>{body}</tbody></table>"""
    return f"""<p class="soft">Rows: true class. Columns: predicted class. Blue is correct, orange wrong; the stronger
the color, the larger the share of the class. Empty cells are 0.</p>
{html_page.scrolling("Confusion matrix", table)}"""


def _row(label: int, row: Sequence[int], name: str) -> str:
    total = max(1, sum(row))
    cells = []
    for column, count in enumerate(row):
        kind = ' class="hit"' if column == label else ""
        shade = f' style="--s:{_DARKEST * count / total:.0f}%"' if count else ""
        cells.append(f"<td{kind}{shade}>{count or ''}</td>")
    return f'<tr><th scope="row">{html_page.name(name)}</th>{"".join(cells)}</tr>'


def _pairs(matrix: np.ndarray, names: Sequence[str]) -> str:
    pairs = metrics.confused_pairs(matrix, _PAIRS)
    totals = matrix.sum(1)
    rows = [
        [
            html_page.name(names[true]),
            html_page.name(names[named]),
            str(count),
            f"{100 * count / totals[true]:.0f}%",
        ]
        for true, named, count in pairs
    ]
    table = html_page.table("Confused classes", ("true", "predicted", "photos", "of the class"), rows, "pairs")
    return f"""<p class="soft">The {len(pairs)} most frequent mistakes among {len(names)} classes.</p>{table}"""
