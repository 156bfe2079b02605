"""The parameters of a profile: `params.yaml` as one frozen, typed object.

Everything below this module takes typed settings; nothing takes a dict. A misspelt or ill-typed key stops the
run before any work starts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, model_validator

from regroup.analysis.settings import DissectParams, FigureParams
from regroup.captions.settings import NounReportParams, NounsParams, ShardsParams
from regroup.dino.settings import DinoParams
from regroup.errors import RegroupError
from regroup.metrics import SEGMENTATION
from regroup.report.settings import LearningParams, PageParams, TablesParams
from regroup.segmentation.settings import EvaluateParams, SweepParams
from regroup.settings import Name, Settings, parse, read_yaml
from regroup.sources.settings import SourceKey, SourceParams, WeightsParams, WorldParams
from regroup.tasks import Evaluations
from regroup.tracking import TrackingParams
from regroup.training.settings import CheckpointParams, FinetuneParams, PretrainParams

StageName = Literal[
    "pretrain",
    "source",
    "weights",
    "shards",
    "nouns",
    "noun_report",
    "resolve",
    "dino",
    "finetune",
    "tasks",
    "evaluate",
    "sweep",
    "dissect",
    "figures",
    "learning",
    "tables",
    "page",
]


class Resources(Settings):
    """What one stage may use; `runtime` in minutes. Read by both engines."""

    threads: int = Field(default=1, ge=1, le=1024)
    mem_mb: int = Field(default=2000, ge=100, le=100_000_000)
    runtime: int = Field(default=30, ge=1, le=525_600)
    gpus: int = Field(default=0, ge=0, le=1024)


class Params(Settings):
    """One profile."""

    name: Name
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
    evaluate: Evaluations
    sweep: SweepParams
    dissect: DissectParams
    figures: FigureParams
    learning: LearningParams
    tables: TablesParams
    page: PageParams
    tracking: TrackingParams
    resources: dict[StageName, Resources]

    @model_validator(mode="after")
    def _nothing_is_left_out(self) -> Params:
        if missing := [stage for stage in get_args(StageName) if stage not in self.resources]:
            raise ValueError(f"resources: no entry for {', '.join(missing)}; every stage has one")
        if "coco" not in self.sources:
            raise ValueError("sources: coco is missing, and every variant is trained on its captions")
        return self

    @property
    def drawn(self) -> bool:
        """Whether any of the data is drawn by this project; numbers and pictures must say so then."""
        return any(source.kind == "mini" for source in self.sources.values())

    @property
    def segmentation(self) -> EvaluateParams:
        """How variants are scored on segmentation; also the inference settings of analyses and figures.

        Raises:
            RegroupError: the profile evaluates no segmentation of this name.
        """
        found = self.evaluate.get(SEGMENTATION)
        if found is None or not isinstance(found.options, EvaluateParams):
            raise RegroupError(
                f"{self.params_file}: evaluate.{SEGMENTATION}: this key is missing, and sweeps, "
                "dissections and figures take its settings"
            )
        return found.options

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
        self.report = Path("reports", name)
        self.page = Path("reports", name, "page.html")
        self.index = Path("reports", name, "index.html")
        self.weights = Path("data", name, "weights")
        self.nouns = Path("reports", name, "nouns")
        self.tables = Path("reports", name, "tables")
        self.table_data = Path("reports", name, "table_data")
        self.figures = Path("reports", name, "figures")
        self.cover = Path("reports", name, "qualitative.png")
        self.metrics = Path("reports", name, "metrics")
        self.sweep = Path("reports", name, "sweep")
        self.dissection = Path("reports", name, "dissection")
        self.curves = Path("reports", name, "curves")
        self.learning = Path("reports", name, "learning")
        self.mapped_labels = Path(".state", name, "labels.arrow")
        self.token_cache = Path(".state", name, "tokens")
        self.text_cache = Path(".state", name, "text")
        self.variants = Path("data", name, "variants")
        self.tasks = Path("data", name, "tasks")
        self.manifests = Path("data", name, "manifests")
        self.dino_settings = Path("data", name, "dino.json")
        self._raw = Path("data", name, "raw")
        self.dino = Path("data", name, "dino")
        self._runs = Path("runs", name)
        self._state = Path(".state", name)

    def raw(self, source: str) -> Path:
        """The raw data of one source."""
        return self._raw / source

    def resolved(self, variant: str) -> Path:
        """The settings of one variant, every default filled in."""
        return self.variants / f"{variant}.json"

    def manifest(self, source: str) -> Path:
        """What the raw data of one source is: a copy of its manifest, apart from the files."""
        return self.manifests / f"{source}.json"

    def task(self, evaluation: str) -> Path:
        """What one evaluation uses: its options, code and data, every default filled in."""
        return self.tasks / f"{evaluation}.json"

    def scores(self, evaluation: str, variant: str) -> Path:
        """The folder of what one variant scored in one evaluation."""
        return self.metrics / evaluation / variant

    def run(self, variant: str) -> Path:
        """The checkpoint folder of one variant."""
        return self._runs / variant

    def state(self, variant: str) -> Path:
        """What a killed run resumes from; removed when the run ends, not an output."""
        return self._state / "runs" / variant


def load_params(path: Path) -> Params:
    """Read and check a profile's `params.yaml`.

    Raises:
        RegroupError: the file is missing, is not YAML, or has an unknown, missing or ill-typed key; the
            message names the file and each key.
    """
    if not path.exists() and not path.is_absolute():
        raise RegroupError(f"{path}: no such file in {Path.cwd()}; start this in the project's root folder")
    return parse(Params, read_yaml(path), path)
