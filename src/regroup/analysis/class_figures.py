"""Class by class: IoU against the pretrained model, and where segments lie in feature space (18 to 20)."""

from __future__ import annotations

import textwrap
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from regroup.analysis.segments import WholeImage
from regroup.drawing import style
from regroup.drawing.figures import Caption, Drawn
from regroup.drawing.labelling import figure_note
from regroup.errors import RegroupError
from regroup.segmentation.inference import Decision
from regroup.segmentation.protocols import ClassPrompts
from regroup.segmentation.windows import background_segments, class_scores

if TYPE_CHECKING:
    from regroup.model import Backbone

MOST = 20
"""Bars of a panel: with more classes, the ten largest gains and the ten largest losses (Figure 19)."""


@dataclass(frozen=True)
class Disparity:
    """A class's IoU in percent under two models; `change` is the second less the first."""

    name: str
    before: float
    after: float

    @property
    def change(self) -> float:
        """In points."""
        return self.after - self.before


def read_disparities(before: Path, after: Path, dataset: str) -> list[Disparity]:
    """Classes that appear and that both models may predict, the largest gain first.

    Args:
        before: per-class scores of a checkpoint, as evaluation writes them.
        after: the same of another.
        dataset: which of the datasets in them.

    Raises:
        RegroupError: a file is missing, or has no such dataset.
    """
    tables = []
    for path in (before, after):
        if not path.is_file():
            raise RegroupError(f"{path}: no per-class scores; run `dvc repro` for the stage evaluate")
        rows = [row for row in pq.read_table(path).to_pylist() if row["dataset"] == dataset]
        if not rows:
            raise RegroupError(f"{path}: was not scored on dataset `{dataset}`")
        tables.append({row["class"]: row for row in rows})
    first, second = tables
    found = [
        Disparity(name, row["iou"], second[name]["iou"])
        for name, row in first.items()
        if row["predictable"] and row["true"] and name in second
    ]
    return sorted(found, key=lambda one: (-one.change, one.name))


def disparity_figure(
    disparities: Mapping[str, Sequence[Disparity]], names: tuple[str, str], profile: str, drawn: bool
) -> Drawn:
    """Bars of each class's change in IoU, one panel a dataset (Figures 18 and 19)."""
    title = f"IoU of each class, {names[1]} against {names[0]}"
    text = (
        f"Change of IoU in points: to the right {names[1]} is better, to the left worse; the number is its "
        f"own IoU in percent. Of more than {MOST} classes the ten largest gains and losses are shown."
    )
    panels = {
        dataset: [*some[: MOST // 2], *some[-MOST // 2 :]] if len(some) > MOST else list(some)
        for dataset, some in disparities.items()
    }
    most = max((len(some) for some in panels.values()), default=1)
    notes = [
        line for note in (text, figure_note(profile, drawn=drawn) or "") for line in textwrap.wrap(note, 138)
    ]
    bottom = 0.45 + 0.13 * len(notes)
    with style.settings():
        page = style.Page(0.6 + 0.16 * most + bottom)
        page.text(0, page.height - 0.04, f"{title} ({profile})", fontsize=9, fontweight="bold", va="top")
        width = style.PAGE_WIDTH / max(1, len(panels))
        for number, (dataset, some) in enumerate(panels.items()):
            height = 0.16 * max(1, len(some))
            axes = page.axes(number * width + 0.95, page.height - 0.5 - height, width - 1.25, height)
            changes = [one.change for one in some]
            colours = [style.PALETTE[4] if change >= 0 else style.PALETTE[5] for change in changes]
            axes.barh(range(len(some)), changes, color=colours, height=0.7)
            axes.set_yticks(range(len(some)), [one.name for one in some])
            axes.invert_yaxis()
            axes.axvline(0, color=style.INK, linewidth=0.6)
            reach = max([1.0, *map(abs, changes)]) * 1.35
            axes.set_xlim(-reach, reach)
            for y, one in enumerate(some):
                side = "left" if one.change >= 0 else "right"
                axes.text(one.change, y, f" {one.after:.0f} ", va="center", ha=side, fontsize=5.5)
            axes.set_title(f"{dataset} (mean change {np.mean(changes):+.1f})" if some else dataset)
            axes.set_xlabel("change of IoU, points")
            axes.tick_params(axis="y", length=0, labelsize=6)
        for number, line in enumerate(reversed(notes)):
            page.text(0, 0.05 + 0.13 * number, line, fontsize=6)
    data: dict[str, NDArray[np.generic]] = {}
    for dataset, every in disparities.items():
        data[f"{dataset}/class"] = np.array([one.name for one in every], dtype=np.str_)
        data[f"{dataset}/before"] = np.array([one.before for one in every])
        data[f"{dataset}/after"] = np.array([one.after for one in every])
    return Drawn("iou-disparity", page.figure, data, Caption(title, text, (18, 19), profile))


@torch.inference_mode()
def named_segments(
    model: Backbone,
    encoded: Iterable[WholeImage],
    classes: Tensor,
    labels: ClassPrompts,
    decision: Decision,
    *,
    wanted: Container[int],
    most: int,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Segment tokens by the class that the model gives them: features [S, width] and ids [S].

    Background and segments without a pixel are left out.

    Args:
        model: that encoded the images.
        encoded: the images, taken one by one until there are enough segments.
        classes: embeddings [N, C].
        labels: as the embeddings were made from.
        decision: the background's threshold, and top-k.
        wanted: class ids that are kept.
        most: how many segments are kept, the first ones.
    """
    features: list[NDArray[np.float32]] = []
    ids: list[int] = []
    scale = model.logit_scale.exp().clamp(max=100)
    prompted = np.array(labels.prompted)
    for image in encoded:
        logits = labels.best_word(F.normalize(image.projected.float(), dim=-1) @ classes.T * scale)
        whole = labels.best_word(F.normalize(image.average.float(), dim=-1) @ classes.T * scale)
        scores = class_scores(logits[None], whole[None], decision.top_k)
        keep = torch.ones(len(logits), dtype=torch.bool)
        if labels.background:
            keep = ~background_segments(scores, decision.threshold)[0].cpu()
        shown = set(np.unique(image.segment_map()).tolist())
        for segment in range(len(logits)):
            label = int(prompted[int(scores[0, segment].argmax())])
            if keep[segment] and segment in shown and label in wanted:
                features.append(image.tokens[segment].float().cpu().numpy())
                ids.append(label)
        if len(ids) >= most:
            break
    features, ids = features[:most], ids[:most]
    width = model.width
    return np.array(features, dtype=np.float32).reshape(-1, width), np.array(ids, dtype=np.int64)


def embed(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """t-SNE of features [S, width] in the plane, [S, 2], the same each time; fewer than four stay at zero."""
    from sklearn.manifold import TSNE

    if len(features) < 4:
        return np.zeros((len(features), 2))
    perplexity = min(30.0, (len(features) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=0, n_jobs=1, max_iter=500)
    return np.asarray(tsne.fit_transform(features.astype(np.float64)), dtype=np.float64)


def tsne_figure(
    panels: Mapping[tuple[str, str], tuple[NDArray[np.float64], Sequence[str]]], profile: str, drawn: bool
) -> Drawn:
    """Segments of the last stage in the plane, coloured by the class their model gives them (Figure 20).

    Args:
        panels: (dataset, model) -> points [S, 2] and the class of each; panels of a dataset stand in one row.
        profile: the profile's name.
        drawn: whether its data is drawn.
    """
    datasets = list(dict.fromkeys(dataset for dataset, _ in panels))
    models = list(dict.fromkeys(model for _, model in panels))
    title = "Segments in feature space"
    text = (
        "t-SNE of segment tokens of the last stage that are not background, coloured by the class the model "
        "itself gives them. Distances between clusters mean little; what counts is which classes mix. Each "
        "panel has axes of its own."
    )
    notes = [
        line for note in (text, figure_note(profile, drawn=drawn) or "") for line in textwrap.wrap(note, 138)
    ]
    size, legend = 2.65, 1.5
    bottom = 0.1 + 0.13 * len(notes)
    with style.settings():
        page = style.Page(0.45 + (size + 0.25) * len(datasets) + bottom)
        page.text(0, page.height - 0.04, f"{title} ({profile})", fontsize=9, fontweight="bold", va="top")
        for row, dataset in enumerate(datasets):
            names = sorted(
                {name for (one, _), (_, some) in panels.items() if one == dataset for name in some}
            )
            colours = style.class_colours(names)
            y = page.height - 0.45 - (size + 0.25) * (row + 1) + 0.2
            for column, model in enumerate(models):
                points, some = panels[dataset, model]
                axes = page.axes(column * (size + 0.08), y, size, size)
                axes.set_xticks([])
                axes.set_yticks([])
                axes.spines[:].set_visible(True)
                axes.set_title(f"{dataset}: {model}, {len(points)} segments", fontsize=7, pad=3)
                for number, name in enumerate(names):
                    mine = np.array([other == name for other in some], dtype=bool)
                    marker = "os^D"[number // 6 % 4]
                    axes.scatter(
                        points[mine, 0],
                        points[mine, 1],
                        s=7,
                        c=colours[name],
                        marker=marker,
                        linewidths=0,
                        label=name,
                    )
            handles, texts = axes.get_legend_handles_labels()
            place = ((style.PAGE_WIDTH - legend + 0.05) / style.PAGE_WIDTH, (y + size) / page.height)
            page.figure.legend(
                handles, texts, loc="upper left", bbox_to_anchor=place, fontsize=5.5, labelspacing=0.25
            )
        for number, line in enumerate(reversed(notes)):
            page.text(0, 0.05 + 0.13 * number, line, fontsize=6)
    data: dict[str, NDArray[np.generic]] = {}
    for (dataset, model), (points, some) in panels.items():
        data[f"{dataset}/{model}/points"] = points.astype(np.float32)
        data[f"{dataset}/{model}/class"] = np.array(some, dtype=np.str_)
    return Drawn("representation", page.figure, data, Caption(title, text, (20,), profile))
