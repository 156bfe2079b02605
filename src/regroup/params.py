"""The parameters of a profile: `params.yaml` as one frozen, typed object.

Everything below this module takes typed settings; nothing takes a dict. A misspelt or ill-typed key stops the
run before any work starts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar, get_args

from pydantic import Field, model_validator

from regroup.analysis.settings import DissectParams, FigureParams
from regroup.captions.settings import NounReportParams, NounsParams, ShardsParams
from regroup.dino.settings import DinoParams
from regroup.errors import RegroupError
from regroup.journal import TrackingParams
from regroup.metrics import SEGMENTATION
from regroup.moved import refuse_moved, remedy
from regroup.report.settings import LearningParams, PageParams, TablesParams
from regroup.segmentation.settings import DatasetParams, EvaluateParams, SweepParams
from regroup.settings import EachOnce, Name, Settings, parse, read_yaml
from regroup.sources.settings import SourceKey, SourceParams, WeightsParams, WorldParams, check_kinds
from regroup.study import StudyFiles
from regroup.tasks import Evaluations
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
    "borrow",
    "tasks",
    "evaluate",
    "sweep",
    "dissect",
    "figures",
    "learning",
    "tables",
    "page",
]


Section = TypeVar("Section", bound=Settings)


class Resources(Settings):
    """What one stage may use; `runtime` in minutes. Read by both engines."""

    threads: int = Field(default=1, ge=1, le=1024)
    mem_mb: int = Field(default=2000, ge=100, le=100_000_000)
    runtime: int = Field(default=30, ge=1, le=525_600)
    gpus: int = Field(default=0, ge=0, le=1024)


class Params(Settings):
    """One profile, or another study of it.

    `data` is the profile whose raw data, shards, captions and self-supervised features are used: `name`
    itself, but for a study beside the profile's own. Such a study has only those of `sweep`, `dissect`,
    `figures` and `learning` that it asks for, and may bring sources that the profile lacks: `own_sources`.
    """

    name: Name
    data: Name
    root: Path
    params_file: Path
    study: Path
    sources: dict[SourceKey, SourceParams]
    own_sources: Annotated[tuple[SourceKey, ...], EachOnce] = ()
    world: WorldParams
    weights: WeightsParams
    shards: ShardsParams
    nouns: NounsParams
    noun_report: NounReportParams
    pretrain: dict[Name, PretrainParams]
    checkpoint: CheckpointParams
    checkpoints: dict[Name, CheckpointParams] = Field(default_factory=dict)
    dino: DinoParams
    finetune: FinetuneParams
    evaluate: Evaluations
    sweep: SweepParams | None = None
    dissect: DissectParams | None = None
    figures: FigureParams | None = None
    learning: LearningParams | None = None
    tables: TablesParams
    page: PageParams
    tracking: TrackingParams
    resources: dict[StageName, Resources]

    @model_validator(mode="after")
    def _nothing_is_left_out(self) -> Params:
        if missing := [stage for stage in get_args(StageName) if stage not in self.resources]:
            raise ValueError(f"resources: no entry for {', '.join(missing)}; every stage has one")
        check_kinds(self.sources)
        if "coco" not in self.sources:
            raise ValueError("sources: coco is missing, and every variant is trained on its captions")
        if strange := [name for name in self.own_sources if name not in self.sources]:
            raise ValueError(f"own_sources: {strange[0]} is not under `sources`")
        drawn = [name for name in self.own_sources if self.sources[name].kind == "mini"]
        if drawn and self.sources["coco"].kind != "mini":
            raise ValueError(
                f"sources.{drawn[0]}.kind: `mini`, drawn, in a profile on real data; give `kind: local` and"
                " `root` in the study's overrides.yaml for this profile, or null and no evaluation of it"
            )
        return self

    @property
    def made_sources(self) -> Mapping[SourceKey, SourceParams]:
        """The sources that the stage `source` makes here: of a study beside the profile's, its own."""
        if self.data == self.name:
            return self.sources
        return {name: source for name, source in self.sources.items() if name in self.own_sources}

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
    def datasets(self) -> Mapping[str, DatasetParams]:
        """The data sets of `evaluate.segmentation`; none where there is no such evaluation."""
        found = self.evaluate.get(SEGMENTATION)
        return found.options.datasets if found and isinstance(found.options, EvaluateParams) else {}

    @property
    def layout(self) -> ProfilePaths:
        """Where this profile's files lie."""
        return ProfilePaths(self.name, self.data, self.own_sources)

    @property
    def files(self) -> StudyFiles:
        """The files of the study."""
        return StudyFiles(self.study)

    @property
    def variants_file(self) -> Path:
        """What is run."""
        return self.files.variants

    def needed(self, section: Section | None, key: str) -> Section:
        """A section that a study may do without, for who cannot.

        Raises:
            RegroupError: it is not there.
        """
        if section is None:
            raise RegroupError(
                f"{self.params_file}: {key}: this key is missing; only with it there is such a stage"
            )
        return section


class ProfilePaths:
    """Where the files of a profile or a study lie, from the project's root; dvc.yaml has the same paths."""

    def __init__(self, name: str, data: str | None = None, own_sources: Collection[str] = ()) -> None:
        """Lay out the results called `name`.

        Args:
            name: of the profile or study.
            data: the profile whose data they are made of; None: the same.
            own_sources: raw data that lies below `name` all the same.
        """
        data = name if data is None else data
        self.shards = Path("data", data, "shards")
        self.captions = Path("data", data, "captions")
        self.report = Path("reports", name)
        self.page = Path("reports", name, "page.html")
        self.index = Path("reports", name, "index.html")
        self.weights = Path("data", name, "weights")
        self.nouns = Path("reports", name, "nouns")
        self.tables = Path("reports", name, "tables")
        self.table_data = Path("reports", name, "table_data")
        self.figures = Path("reports", name, "figures")
        self.measures = Path("reports", name, "measures")
        self.cover = Path("reports", name, "qualitative.png")
        self.metrics = Path("reports", name, "metrics")
        self.sweep = Path("reports", name, "sweep")
        self.dissection = Path("reports", name, "dissection")
        self.curves = Path("reports", name, "curves")
        self.learning = Path("reports", name, "learning")
        self.mapped_labels = Path(".state", data, "labels.arrow")
        self.token_cache = Path(".state", data, "tokens")
        self.text_cache = Path(".state", data, "text")
        self.features = Path(".state", data, "features")
        self.variants = Path("data", name, "variants")
        self.tasks = Path("data", name, "tasks")
        self.manifests = Path("data", data, "manifests")
        self.dino_settings = Path("data", data, "dino.json")
        self.own_manifests = Path("data", name, "manifests")
        self._raw, self._own_raw = Path("data", data, "raw"), Path("data", name, "raw")
        self._own = frozenset(own_sources)
        self.dino = Path("data", data, "dino")
        self._runs = Path("runs", name)
        self._state = Path(".state", name)

    def raw(self, source: str) -> Path:
        """The raw data of one source."""
        return (self._own_raw if source in self._own else self._raw) / source

    def resolved(self, variant: str) -> Path:
        """The settings of one variant, every default filled in."""
        return self.variants / f"{variant}.json"

    def manifest(self, source: str) -> Path:
        """What the raw data of one source is: a copy of its manifest, apart from the files."""
        return (self.own_manifests if source in self._own else self.manifests) / f"{source}.json"

    def task(self, evaluation: str) -> Path:
        """What one evaluation uses: its options, code and data, every default filled in."""
        return self.tasks / f"{evaluation}.json"

    def scores(self, evaluation: str, variant: str) -> Path:
        """The folder of what one variant scored in one evaluation."""
        return self.metrics / evaluation / variant

    def backbone(self, variant: str) -> Path:
        """Which backbone one variant's checkpoint is of, and the digest of its code: for who scores it."""
        return self.variants / f"{variant}.backbone"

    def run(self, variant: str) -> Path:
        """The checkpoint folder of one variant."""
        return self._runs / variant

    def state(self, variant: str) -> Path:
        """What a killed run resumes from; removed when the run ends, not an output."""
        return self._state / "runs" / variant


def weight_folders(params: Params) -> tuple[Path, ...]:
    """Where the stage `weights` puts what it fetches: the profile's own, and that of the data it shares."""
    return tuple(dict.fromkeys(ProfilePaths(name).weights for name in (params.name, params.data)))


def load_params(path: Path) -> Params:
    """Read and check a profile's `params.yaml`.

    Raises:
        RegroupError: the file is missing, is not YAML, or has an unknown, missing or ill-typed key; the
            message names the file and each key, and says where a key of an earlier layout is now.
    """
    if not path.exists() and not path.is_absolute():
        raise RegroupError(f"{path}: no such file in {Path.cwd()}; start this in the project's root folder")
    values = read_yaml(path)
    refuse_moved(values, path)
    try:
        return parse(Params, values, path)
    except RegroupError as error:
        raise RegroupError("\n".join([str(error), *remedy(path)])) from None
