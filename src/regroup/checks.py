"""What can be wrong with a study before anything is run: its parameters, its runs and its tables together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from regroup.checks_of_training import untrainable
from regroup.errors import RegroupError
from regroup.metrics import SEGMENTATION
from regroup.moved import moved_files
from regroup.params import Params, load_params, weight_folders
from regroup.pipelines import pipeline_faults
from regroup.places import place_faults
from regroup.profile_tables import printed_numbers
from regroup.report.claims import load_claims
from regroup.report.reference import Reference, RowRef, load_reference
from regroup.segmentation.protocols import load_protocol
from regroup.settings import read_yaml
from regroup.sources.mini.names import drawn_names
from regroup.sources.weights import find_weights
from regroup.study import STUDIES, load_borrowed
from regroup.variants import Variant
from regroup.variants_file import load_scored, load_variants


@dataclass(frozen=True)
class Study:
    """A study without faults, in numbers."""

    profile: str
    runs: int
    trained: int
    tables: int
    rows: int

    def __str__(self) -> str:
        """One line."""
        return (
            f"{self.profile}: {_count(self.runs, 'run')} ({self.trained} trained) "
            f"{'fills' if self.runs == 1 else 'fill'} {_count(self.rows, 'row')} of "
            f"{_count(self.tables, 'table')}; no faults found"
        )


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def check_study(params_file: Path) -> Study:
    """Check a profile's parameters and its variants, against each other and against the tables.

    Raises:
        RegroupError: every fault found, one a line: an unknown key, part, objective or table row, two runs
            that are the same, a table row that no run fills, a vocabulary, dataset, source, checkpoint or
            variant that is named but not defined, a protocol without the drawn world's classes, a batch or an
            image size that cannot be trained with, a profile whose files are not where it says.
    """
    params = load_params(params_file)
    variants = load_variants(params.variants_file)
    scored = load_scored(params.variants_file, params.data)
    reference = load_reference(params.files.tables)
    load_claims(params.files.claims, reference=reference)
    faults = [
        *_unknown_rows(scored, reference, params.variants_file),
        *_unfilled_rows(scored, reference, params, params_file),
        *_unborrowable(params),
        *_unknown_names(variants, scored, params, params_file),
        *_unscorable(params, params_file),
        *pipeline_faults(params),
        *map(str, place_faults(params.name)),
        *moved_files(),
        *_misplaced(params, params_file),
        *dict.fromkeys(untrainable(variants, params, params_file)),
    ]
    if faults:
        raise RegroupError("\n".join(faults))
    shown = [reference.table(number) for number in printed_numbers(params, reference)]
    return Study(
        profile=params.name,
        runs=len(scored),
        trained=sum(variant.trained for variant in variants.values()),
        tables=len(shown),
        rows=sum(len(table.rows) for table in shown),
    )


def _unknown_rows(scored: Mapping[str, Variant], reference: Reference, path: Path) -> Iterator[str]:
    borrowed = load_borrowed(path)
    for name, variant in scored.items():
        for row in variant.rows:
            try:
                reference.table(row.table).row(row.row)
            except RegroupError as error:
                yield f"{path}: {'borrowed' if name in borrowed else 'variants'}.{name}.rows: {error}"


def _unborrowable(params: Params) -> Iterator[str]:
    """A profile's own graph is no copy that could have further stages."""
    if params.data == params.name and (borrowed := load_borrowed(params.variants_file)):
        yield (
            f"{params.variants_file}: borrowed: {', '.join(borrowed)}: only a study beside the profile's own "
            f"borrows runs; this is the study of {params.params_file} itself"
        )


def _unfilled_rows(
    scored: Mapping[str, Variant], reference: Reference, params: Params, path: Path
) -> Iterator[str]:
    known = {(table.number, line.id) for table in reference.tables for line in table.rows}
    filled = {
        str(reference.first(RowRef(table=row.table, row=row.row)))
        for variant in scored.values()
        for row in variant.rows
        if (row.table, row.row) in known
    }
    for number in printed_numbers(params, reference):
        try:
            by = reference.table(number).filled_by
        except RegroupError as error:
            yield f"{path}: tables.numbers: {error}"
            continue
        if by != "variants":
            if getattr(params, by) is None:
                yield f"{path}: {by}: this key is missing, and table {number} is filled by the stage `{by}`"
            continue
        for line in reference.table(number).rows:
            first = reference.first(RowRef(table=number, row=line.id))
            if str(first) not in filled:
                yield (
                    f"{params.variants_file}: no variant fills table {number}, row {line.id}; add "
                    f"`rows: [{{table: {first.table}, row: {first.row}}}]` to one, or leave the table out of "
                    f"`tables.numbers` in {path}"
                )


def _unknown_names(
    variants: Mapping[str, Variant], scored: Mapping[str, Variant], params: Params, path: Path
) -> Iterator[str]:
    for name, variant in variants.items():
        where = f"{params.variants_file}: variants.{name}"
        vocabulary = variant.labels.vocabulary
        if vocabulary is not None and vocabulary not in params.nouns.vocabularies:
            known = ", ".join(params.nouns.vocabularies) or "none"
            yield f"{where}.labels.vocabulary: no {vocabulary} in `nouns.vocabularies` of {path} ({known})"
    figures, dissect, sweep, learning = params.figures, params.dissect, params.sweep, params.learning
    named = {
        "figures": figures.variants if figures else (),
        "dissect.variants": dissect.variants if dissect else (),
        "sweep.variant": (sweep.variant,) if sweep else (),
        "learning.panels": learning.variants if learning else (),
        "tracking.register": () if (model := params.tracking.final_model) is None else (model,),
    }
    for key, names in named.items():
        runs = variants if key == "tracking.register" else scored  # MLflow has it from who trained it
        for name in names:
            if name not in runs:
                yield f"{path}: {key}: {name} is not in {params.variants_file}"
    sets = {
        "figures": figures.every_dataset if figures else (),
        "dissect.datasets": dissect.datasets if dissect else (),
        "sweep.datasets": sweep.datasets if sweep else (),
    }
    if figures and not dissect:
        yield f"{path}: dissect: this key is missing, and `figures` draws from a dissection"
    for key, datasets in sets.items():
        for dataset in datasets:
            if dataset not in params.datasets:
                yield f"{path}: {key}: {dataset} is not under evaluate.segmentation.datasets"
    if learning and learning.dataset not in params.segmentation.validation.datasets:
        yield (
            f"{path}: learning.dataset: {learning.dataset} is not in "
            "evaluate.segmentation.validation.datasets"
        )
    try:
        find_weights(params.weights.artefacts)
    except RegroupError as error:
        yield f"{path}: {error}"


def _misplaced(params: Params, path: Path) -> Iterator[str]:
    """Files that stages start from exist; a graph beside the parameters reads these and the same variants."""
    starts = {
        "checkpoint.path": params.checkpoint.path,
        "dino.path": params.dino.path,
        "nouns.tagger_path": params.nouns.tagger_path,
    }
    if params.nouns.tagger == "nltk" and params.nouns.tagger_path is None:
        yield f"{path}: nouns.tagger_path: is not set, and the tagger `nltk` needs its weights"
    for key, file in starts.items():
        fetched = any(file and file.is_relative_to(place) for place in weight_folders(params))
        if file is not None and not file.exists() and not fetched:
            yield f"{path}: {key}: {file} does not exist"
    made_here = params.layout.run("any").parent
    for name, one in params.checkpoints.items():
        if one.path.is_relative_to(made_here):
            yield (
                f"{path}: checkpoints.{name}.path: {one.path} is made by this very pipeline, which would wait"
                " for itself; copy it to a place outside `runs`"
            )
    pipeline = path.with_name("dvc.yaml")
    if not pipeline.is_file():
        return
    if params.params_file.resolve() != path.resolve():
        yield f"{path}: params_file: is {params.params_file}, so {pipeline} would read another profile"
    if params.data != params.name and path.parts[:1] != STUDIES.parts:
        yield (
            f"{path}: data: is {params.data}, and nothing here would make the data of that profile; give "
            f"`data: {params.name}`. What shares data is a study beside the profile's own (docs/studies.md)"
        )
    if (path.parent / params.root).resolve() != Path.cwd():
        yield f"{path}: root: {params.root} is not the project's root, seen from {path.parent}"
    graph = read_yaml(pipeline)
    named = graph.get("vars", []) if isinstance(graph, dict) else []
    files = {(path.parent / one).resolve() for one in named if isinstance(one, str)}
    if params.variants_file.resolve() not in files:
        yield f"{path}: study: {params.variants_file} is not under `vars` of {pipeline}"


def _unscorable(params: Params, path: Path) -> Iterator[str]:
    known = ", ".join(params.sources)
    for name, one in params.evaluate.items():
        for source in one.sources if name != SEGMENTATION else ():
            if source not in params.sources:
                yield f"{path}: evaluate.{name}: reads {source}, which is not under `sources` ({known})"
    if params.sweep and not params.sweep.combined(params.segmentation):
        yield f"{path}: sweep.stride: every stride is larger than every window"
    for name, dataset in params.datasets.items():
        where = f"{path}: evaluate.segmentation.datasets.{name}"
        if dataset.source not in params.sources:
            yield f"{where}.source: {dataset.source} is not under `sources` ({known})"
        try:
            classes = load_protocol(dataset.protocol).classes
            drawn = set(drawn_names(dataset.source)) if dataset.names == "drawn" else set()
        except RegroupError as error:
            yield f"{where}: {error}"
            continue
        if missing := drawn.difference(classes):
            yield (
                f"{where}.names: {dataset.protocol} has no class for the drawn {', '.join(sorted(missing))}; "
                "give `names: all`"
            )
