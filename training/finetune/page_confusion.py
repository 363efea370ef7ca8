"""The part of the page that shows which classes are confused."""

from collections.abc import Sequence

import numpy as np

from fd_keras.training import html_page
from fd_keras.training.finetune import metrics

MOST_CLASSES = 30  # of a matrix; with more, the most confused pairs are listed
_PAIRS = 30
_UPRIGHT = 4  # number of classes up to which their names stand upright above the columns
_DARKEST = 45  # percent of color in a cell, so that the number in it can be read


def confusion(matrix: np.ndarray, names: Sequence[str]) -> str:
    """The confusion matrix as a table, or the most confused pairs where there are too many classes.

    Args:
        matrix: From `metrics.confusion_matrix`.
        names: Class names.
    """
    return _matrix(matrix, names) if len(names) <= MOST_CLASSES else _pairs(matrix, names)


def _matrix(matrix: np.ndarray, names: Sequence[str]) -> str:
    heads = "".join(f'<th scope="col"><span>{html_page.name(name)}</span></th>' for name in names)
    body = "".join(_row(label, row, names[label]) for label, row in enumerate(matrix.tolist()))
    table = f"""<table class="{"matrix many" if len(names) > _UPRIGHT else "matrix"}">
<caption class="unseen">Number of photos by class and by the class that is named</caption>
<thead><tr><td>shows ↓ named →</td>{heads}</tr></thead><tbody>{body}</tbody></table>"""
    return f"""<p class="soft">Rows: what the photo shows. Columns: what the network names. Blue is right, orange wrong;
the stronger, the larger the share of the class. Empty cells are 0.</p>
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
    table = html_page.table("Classes that are confused", ("shows", "named", "photos", "of the class"), rows, "pairs")
    return (
        f"""<p class="soft">The {len(pairs)} most frequent mistakes of those between {len(names)} classes.</p>{table}"""
    )
