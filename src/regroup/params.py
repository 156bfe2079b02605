"""The parameters of a profile: `params.yaml` as one frozen, typed object.

Everything below this module takes typed settings; nothing takes a dict. A misspelt or ill-typed key stops the
run before any work starts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from regroup.captions.settings import NounReportParams, NounsParams, ShardsParams
from regroup.dino.settings import DinoParams
from regroup.segmentation.settings import EvaluateParams
from regroup.settings import Settings, parse, read_yaml
from regroup.sources.settings import SourceParams, WeightsParams, WorldParams
from regroup.tracking import TrackingParams
from regroup.training.settings import CheckpointParams, FinetuneParams, PretrainParams

StageName = Literal[
    "pretrain",
    "source",
    "weights",
    "shards",
    "nouns",
    "noun_report",
    "dino",
    "finetune",
    "evaluate",
    "figures",
    "tables",
]
SourceKey = Literal["coco", "voc12", "context", "ade"]


class FigureParams(Settings):
    """The qualitative figure: `images` rows of each dataset named, from the variants named."""

    datasets: tuple[str, ...] = ("coco", "voc")
    images: int = Field(default=3, ge=1)
    variants: tuple[str, ...] = ("original", "refined-384", "noise-free-ge-384")


class TablesParams(Settings):
    """Which tables of the thesis are printed."""

    numbers: tuple[int, ...] = (11,)


class Resources(Settings):
    """What one stage may use; `runtime` in minutes. Read by both engines."""

    threads: int = Field(default=1, ge=1)
    mem_mb: int = Field(default=2000, ge=100)
    runtime: int = Field(default=30, ge=1)
    gpus: int = Field(default=0, ge=0)


class Params(Settings):
    """One profile."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    root: Path
    params_file: Path
    variants_file: Path
    sources: dict[SourceKey, SourceParams]
    world: WorldParams
    weights: WeightsParams
    shards: ShardsParams
    nouns: NounsParams
    noun_report: NounReportParams
    pretrain: PretrainParams
    checkpoint: CheckpointParams
    dino: DinoParams
    finetune: FinetuneParams
    evaluate: EvaluateParams
    figures: FigureParams
    tables: TablesParams
    tracking: TrackingParams
    resources: dict[StageName, Resources]

    @property
    def layout(self) -> Layout:
        """Where this profile's files lie."""
        return Layout(self.name)


class Layout:
    """Where a profile's files lie, relative to the project's root; dvc.yaml declares the same paths."""

    def __init__(self, name: str) -> None:
        """Lay out the profile called `name`."""
        self.shards = Path("data", name, "shards")
        self.captions = Path("data", name, "captions")
        self.weights = Path("data", name, "weights")
        self.nouns = Path("reports", name, "nouns")
        self.tables = Path("reports", name, "tables")
        self.figures = Path("reports", name, "figures")
        self.metrics = Path("reports", name, "metrics")
        self.curves = Path("reports", name, "curves")
        self.validation = Path("reports", name, "validation")
        self._raw = Path("data", name, "raw")
        self.dino = Path("runs", name, "dino")
        self._runs = Path("runs", name)
        self._state = Path(".state", name)

    def raw(self, source: str) -> Path:
        """The raw data of one source."""
        return self._raw / source

    def run(self, variant: str) -> Path:
        """The checkpoint folder of one variant."""
        return self._runs / variant

    def state(self, variant: str) -> Path:
        """What a killed run resumes from; removed when the run ends, not an output."""
        return self._state / variant


def load_params(path: Path) -> Params:
    """Read and check a profile's `params.yaml`.

    Raises:
        RegroupError: the file is missing, is not YAML, or has an unknown, missing or ill-typed key; the
            message names the file and each key.
    """
    return parse(Params, read_yaml(path), path)
