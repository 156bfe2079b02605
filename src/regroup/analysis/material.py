"""What the figures and measures of a profile are made from: models, datasets, and who plays which part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from regroup.analysis.segments import WholeImage, encode_dataset, open_dataset, side_of
from regroup.analysis.settings import DissectParams, FigureParams
from regroup.model.dino import DinoKeys
from regroup.segmentation.resolved import ResolvedDataset
from regroup.segmentation.settings import EvaluateParams

if TYPE_CHECKING:
    from regroup.model import Backbone


@dataclass(frozen=True)
class Material:
    """What the figures and measures of a profile are made from.

    Attributes:
        models: by the names of variants; in eval mode.
        figures: which variants play which part.
        dissect: K and the size of the bank, for Figure 12.
        evaluate: inference settings and datasets.
        roots: raw data of each source.
        metrics: folder of what variants scored, each in a folder with its per-class scores.
        dino: the patch features that GroupViT's are compared with.
        profile: its name.
        drawn: whether its data is drawn.
    """

    models: Mapping[str, Backbone]
    figures: FigureParams
    dissect: DissectParams
    evaluate: EvaluateParams
    roots: Mapping[str, Path]
    metrics: Path
    dino: DinoKeys
    profile: str
    drawn: bool

    @property
    def pretrained(self) -> Backbone:
        """The start of all others."""
        return self.models[self.figures.pretrained]

    def chosen(self, *names: str) -> dict[str, Backbone]:
        """Some of the models, each once."""
        return {name: self.models[name] for name in dict.fromkeys(names)}

    def root(self, dataset: str) -> Path:
        """The raw data of a dataset."""
        return self.roots[self.evaluate.datasets[dataset].source]

    def opened(self, dataset: str) -> ResolvedDataset:
        """A dataset on its own split."""
        return open_dataset(self.evaluate.datasets[dataset], self.root(dataset), dataset)

    def whole(self, model: Backbone, dataset: str, split: str | None = None) -> Iterator[WholeImage]:
        """A split of a dataset, encoded as the dissection does."""
        side, images = side_of(model, self.evaluate.window), self.opened(dataset)
        images = images.on(split or images.split)
        return encode_dataset(model, images, side=side, batch=self.evaluate.batch)

    @property
    def dissected(self) -> str:
        """The dataset that is dissected, where one is."""
        assert self.figures.dissected is not None
        return self.figures.dissected
