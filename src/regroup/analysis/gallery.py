"""Every figure of a profile, drawn one after another (chapters 3 to 5 but for the learning curves)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

from regroup.analysis.affinity import affinity_figure
from regroup.analysis.class_figures import (
    MOST,
    Disparity,
    disparity_figure,
    embed,
    named_segments,
    read_disparities,
    tsne_figure,
)
from regroup.analysis.diagrams import diagrams
from regroup.analysis.dissection import build_banks
from regroup.analysis.grouping_figures import (
    Shown,
    attention_figure,
    concepts_figure,
    entropy_figure,
    segments_figure,
)
from regroup.analysis.material import Material
from regroup.analysis.panels import PanelSample, panel_data, qualitative_panel
from regroup.analysis.qualitative import (
    dissection_samples,
    low_iou_samples,
    numbered_images,
    qualitative_samples,
    telling_images,
)
from regroup.drawing.figures import Caption, Drawn
from regroup.segmentation.evaluation import decide
from regroup.segmentation.prompts import embed_prompts
from regroup.segmentation.scores import PER_CLASS

SEARCHED = 300
"""Images that concepts of group tokens are looked for in."""

ROWS = 3
"""Images of the figures that show segments, attention and entropy."""

LOW = 4
"""Classes of a dataset whose losses are looked into."""

FIRST = 10
"""Images of the patch affinities: the first of the split, whatever they show (section 5.14.1)."""


@dataclass(frozen=True)
class Gallery(Material):
    """Draws the figures of a profile."""

    def draw(self) -> Iterator[Drawn]:
        """Every figure that the profile's datasets allow."""
        yield from diagrams(self.models, self.figures, self.evaluate, self.dino.config, self.profile)
        yield self.qualitative()
        if self.figures.dissected is not None:
            parts: tuple[Callable[[], Drawn], ...] = (
                self.segments,
                self.concepts,
                self.attention,
                self.entropy,
                self.dissection,
                self.affinity,
            )
            for part in parts:
                yield part()
        if self.figures.compared:
            yield self.disparity()
            yield self.low_iou()
            yield self.representation()

    @cached_property
    def _shown(self) -> list[Shown]:
        return [Shown(image, mask) for image, mask in telling_images(self.opened(self.dissected), ROWS)]

    @cached_property
    def _first(self) -> list[Shown]:
        images = numbered_images(self.opened(self.dissected))
        return [Shown(image, mask) for image, mask in islice(images, FIRST)]

    def qualitative(self) -> Drawn:
        """Figures 13, 16, 17 and 25 to 27."""
        part = self.figures
        models = self.chosen(part.pretrained, part.fine_tuned, part.group_entropy, part.baseline)
        samples = [
            sample
            for name in part.datasets
            for sample in qualitative_samples(
                models, self.evaluate, name, self.root(name), images=part.images
            )
        ]
        title = "What the checkpoints see"
        text = "Validation images, their ground truth, and the masks of the pretrained and fine-tuned models."
        return self._panel("qualitative", samples, title, text, (13, 16, 17, 25, 26, 27))

    def _panel(
        self, name: str, samples: Sequence[PanelSample], title: str, text: str, thesis: tuple[int, ...]
    ) -> Drawn:
        figure = qualitative_panel(
            samples, title=title, profile=self.profile, drawn=self.drawn, footnote=text
        )
        return Drawn(name, figure, panel_data(samples), Caption(title, text, thesis, self.profile))

    def segments(self) -> Drawn:
        """Figure 1."""
        models = self.chosen(self.figures.pretrained, self.figures.baseline)
        return segments_figure(models, self._shown, self.evaluate.window, self.profile, self.drawn)

    def concepts(self) -> Drawn:
        """Figures 6 and 7."""
        dataset = self.opened(self.dissected)
        encoded = islice(self.whole(self.pretrained, self.dissected), SEARCHED)
        images = numbered_images(dataset)
        return concepts_figure(
            [
                (image, one.segment_map("bicubic"), mask)
                for one, (image, mask) in zip(encoded, images, strict=False)
            ],
            dataset.protocol.classes,
            background=dataset.protocol.background,
            profile=self.profile,
            drawn=self.drawn,
            model_name=self.figures.pretrained,
        )

    def attention(self) -> Drawn:
        """Figure 9."""
        window, name = self.evaluate.window, self.figures.pretrained
        return attention_figure(self.pretrained, self._shown, window, self.profile, self.drawn, name)

    def entropy(self) -> Drawn:
        """Figures 10, 14 and 15."""
        part = self.figures
        parts = [
            (name, self.models[name]) for name in (part.pretrained, part.group_entropy, part.label_entropy)
        ]
        prompts = self.opened(self.dissected).prompts.texts
        classes = {name: embed_prompts(model, prompts) for name, model in parts}
        before, groups, labels = parts
        return entropy_figure(
            before,
            groups,
            labels,
            classes,
            self._shown,
            self.evaluate.window,
            self.profile,
            self.drawn,
        )

    def dissection(self) -> Drawn:
        """Figure 12."""
        dataset = self.dissected
        protocol = self.opened(dataset).protocol
        train = self.whole(self.pretrained, dataset, "train")
        bank = build_banks(train, protocol, self.dissect.features_per_class)[False]
        samples = dissection_samples(
            self.pretrained,
            self.evaluate,
            dataset,
            self.root(dataset),
            bank,
            self.dissect.chosen,
            images=ROWS,
        )
        title = f"Grouping and alignment, each on its own, {self.figures.pretrained}"
        text = (
            "Alignment alone: the model names the regions of the ground truth. Grouping alone: its segments "
            f"get the class of their {self.dissect.chosen} nearest segments of the training split. Both: its "
            "own masks."
        )
        return self._panel("dissection", samples, title, text, (12,))

    def affinity(self) -> Drawn:
        """Figure 23."""
        features = self.dino
        name = "DINO" if features.config.kind == "published" else "DINO (stand-in)"
        names = name, f"{type(self.pretrained).__name__} ({self.figures.pretrained})"
        return affinity_figure(self.pretrained, features, self._first, self.profile, self.drawn, names)

    @cached_property
    def _disparities(self) -> dict[str, list[Disparity]]:
        before, after = (
            self.metrics / name / PER_CLASS for name in (self.figures.pretrained, self.figures.baseline)
        )
        return {name: read_disparities(before, after, name) for name in self.figures.compared}

    def disparity(self) -> Drawn:
        """Figures 18 and 19."""
        names = self.figures.pretrained, self.figures.baseline
        return disparity_figure(self._disparities, names, self.profile, self.drawn)

    def low_iou(self) -> Drawn:
        """Figures 21 and 22."""
        part = self.figures
        models = self.chosen(part.pretrained, part.baseline)
        samples = []
        for name, some in self._disparities.items():
            lost = [one.name for one in some[::-1][:LOW]]
            samples += low_iou_samples(models, self.evaluate, name, self.root(name), lost)
        title = f"Classes on which {part.baseline} lost most"
        text = (
            "Beside each row a class whose IoU fell most (or rose least) against the pretrained model, "
            f"{LOW} of each dataset ({', '.join(self._disparities)}), in an image where it takes 3% or more."
        )
        return self._panel("low-iou", samples, title, text, (21, 22))

    def representation(self) -> Drawn:
        """Figure 20."""
        panels = {}
        for name, some in self._disparities.items():
            dataset = self.opened(name)
            prompts, classes = dataset.prompts, dataset.protocol.classes
            wanted = set(prompts.ids)
            if len(some) > MOST:
                wanted = {classes.index(one.name) for one in some if one.change < 0}
            for variant, model in self.chosen(self.figures.pretrained, self.figures.baseline).items():
                features, ids = named_segments(
                    model,
                    self.whole(model, name),
                    embed_prompts(model, prompts.texts),
                    prompts,
                    decide(dataset, self.evaluate),
                    wanted=wanted,
                    most=self.figures.points,
                )
                panels[name, variant] = embed(features), [classes[label] for label in ids]
        return tsne_figure(panels, self.profile, self.drawn)
