"""Every number that a user may write has a range, and every name a form: nonsense ends before any work."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from regroup.errors import RegroupError
from regroup.params import Params, load_params
from regroup.settings import parse, read_yaml
from regroup.training.settings import AugmentationSettings, FinetuneParams, OptimiserParams
from regroup.variants import Variant
from regroup.variants_file import load_variants

ROOT = Path(__file__).parents[1]
PARAMS = read_yaml(ROOT / "params.yaml")
VARIANT = {
    "title": "T",
    "rows": [{"table": 6, "row": "refined"}],
    "epochs": 1,
    "batch": 256,
    "seed": 1,
    "last_group_tokens": 4,
    "labels": {"count": 5},
    "objectives": [{"name": "contrastive", "weight": 1.0}],
}
SHAPES_THAT_CHECK_THEMSELVES = {"GroupViTConfig", "ImageConfig", "StageConfig", "TextConfig", "DinoConfig"}
"""Dataclasses of `regroup.model.config`, which also read a checkpoint's config.json."""


def numbers(schema: dict[str, Any], where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every number in a JSON schema that is not one of a few given ones."""
    if schema.get("type") in ("integer", "number") and not {"const", "enum"} & set(schema):
        yield where, schema
    for key, value in schema.items():
        for number, part in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(part, dict) and key not in ("default", "examples"):
                yield from numbers(part, f"{where}.{key}{number if isinstance(value, list) else ''}")


@pytest.mark.parametrize("model", [Params, Variant])
def test_every_number_has_a_least_and_a_most(model: type[Params] | type[Variant]) -> None:
    schema = model.model_json_schema()
    for name in SHAPES_THAT_CHECK_THEMSELVES & set(schema.get("$defs", {})):
        del schema["$defs"][name]
    found = dict(numbers(schema, model.__name__))
    assert len(found) > 5
    least, most = {"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"}
    assert [where for where, one in found.items() if not (least & set(one) and most & set(one))] == []


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from leaves(part, (*path, key))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from leaves(part, (*path, number))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path


def with_value(values: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed: Any = copy.deepcopy(values)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return dict(changed)


def refusal(model: type[Params] | type[Variant], values: dict[str, Any]) -> str:
    """What is said of the values; nothing if they are taken."""
    try:
        parse(model, values, Path("some.yaml"))
    except RegroupError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("nonsense", [float("nan"), float("inf"), -1e18, 2**70, True], ids=str)
@pytest.mark.parametrize(
    ("model", "values"), [(Params, PARAMS), (Variant, VARIANT)], ids=["params", "variant"]
)
def test_no_number_takes_nonsense(
    model: type[Params] | type[Variant], values: dict[str, Any], nonsense: float
) -> None:
    said = {path: refusal(model, with_value(values, path, nonsense)) for path in leaves(values)}
    assert [path for path, words in said.items() if not words.startswith(f"some.yaml: {path[0]}")] == []


@pytest.mark.parametrize(
    ("model", "values", "message"),
    [
        (OptimiserParams, {"betas": [2, 3]}, "betas.0: Input should be less than 1"),
        (OptimiserParams, {"final_learning_rate": 1.0}, "`final_learning_rate` 1 is above `learning_rate`"),
        (AugmentationSettings, {"crop_scale": [-1, 0]}, "crop_scale.0: Input should be greater than 0"),
        (AugmentationSettings, {"crop_scale": [0.9, 0.1]}, "larger than the second"),
        (AugmentationSettings, {"crop_scale": [0.5, 1.5]}, "crop_scale.1"),
        (AugmentationSettings, {"crop_ratio": [0, 1]}, "crop_ratio.0"),
        (AugmentationSettings, {"erasing_ratio": [3, 0.3]}, "larger than the second"),
        (FinetuneParams, {"image_sizes": {224: 0}}, "image_sizes.224"),
        (FinetuneParams, {"image_sizes": {225: 64}}, "image_sizes.225"),
        (FinetuneParams, {"epoch_samples": "many"}, "epoch_samples"),
    ],
)
def test_pairs_and_tables_of_numbers_have_ranges(
    model: type[OptimiserParams], values: dict[str, Any], message: str
) -> None:
    with pytest.raises(RegroupError) as error:
        parse(model, values, Path("some.yaml"))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("name", "Mini", "a name is lower-case letters and digits"),
        ("name", "mini.2", "a name is lower-case letters and digits"),
        ("name", "x" * 65, "at most 64"),
        ("sweep.variant", "ge;touch x", "sweep.variant: a name is"),
        ("sweep.datasets", ["voc", "voc"], "sweep.datasets: 'voc' is listed twice"),
        ("sweep.threshold", [5, -3], "sweep.threshold.0"),
        ("dissect.variants", ["original", "original"], "'original' is listed twice"),
        ("tables.numbers", [1, 1], "1 is listed twice"),
        ("nouns.vocabularies", {"freq 1k": 3}, "a name is"),
        ("resources.page", None, "resources"),
    ],
)
def test_names_and_lists_have_a_form(key: str, value: Any, message: str) -> None:
    with pytest.raises(RegroupError) as error:
        parse(Params, with_value(PARAMS, tuple(key.split(".")), value), Path("params.yaml"))
    assert message in str(error.value)


def test_a_stage_without_resources_and_a_profile_without_captions_are_named() -> None:
    for section, key in (("resources", "resolve"), ("sources", "coco")):
        values = copy.deepcopy(PARAMS)
        del values[section][key]
        with pytest.raises(RegroupError, match=rf"{section}: .*{key}"):
            parse(Params, values, Path("params.yaml"))


ENTRY = "\n  {name}:\n    title: T\n    epochs: 3\n    objectives: [{{name: contrastive}}]\n"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ge-0.5", "a name is lower-case"),
        ('"a b"', "a name is lower-case"),
        ('"a;touch x"', "a name is lower-case"),
        ("ge@2", "a name is lower-case"),
        ("ge/2", "a name is lower-case"),
        ("../x", "a name is lower-case"),
        ('""', "a name is lower-case"),
        ("-ge", "a name is lower-case"),
        ("GE", "a name is lower-case"),
        ('"ge\\n"', "a name is lower-case"),
        ("gé", "a name is lower-case"),
        ("7", "valid string"),
        ("ge_384", "to Snakemake it is the same name as ge-384"),
        ("ge-385", None),
        ('"385"', None),
    ],
)
def test_a_variant_s_name_can_be_addressed_by_both_engines(
    tmp_path: Path, name: str, message: str | None
) -> None:
    path = tmp_path / "variants.yaml"
    path.write_text((ROOT / "studies/thesis/variants.yaml").read_text() + ENTRY.format(name=name))
    if message is None:
        assert name.strip('"') in load_variants(path)
        return
    with pytest.raises(RegroupError) as error:
        load_variants(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("seed: -1", "variants.one.seed"),
        ("seed: 18446744073709551616", "variants.one.seed"),
        ("seed: 1.5", "variants.one.seed"),
        ("epochs: yes", "variants.one.epochs"),
        ("epochs: true", "variants.one.epochs: a number or a word is wanted"),
        ("objectives: [{name: contrastive, weight: .nan}]", "variants.one.objectives.0.weight"),
        ("objectives: [{name: contrastive, weight: 1e400}]", "variants.one.objectives.0.weight"),
        ("objectives: [{name: contrastive, weight: -1}]", "variants.one.objectives.0.weight"),
        ("objectives: [{name: contrastive, weight: 0}]", "every weight is 0"),
        ("objectives: []", "say `trainable: nothing`"),
        ("trainable: nothing", "leaves nothing to its `objectives`"),
        ("dino_input: true\n    grouping_blocks: 1", "feeds the second grouping block"),
        ("labels: {source: none, vocabulary: freq1k}", "`vocabulary` chooses among labels"),
        ("labels: {fallback: too_few}", "`fallback: too_few` fills up a curated `vocabulary`"),
        ("labels: {vocabulary: freq1k, fallback: never}", "labels.fallback"),
        ("labels: {source: published}", "labels.source"),
        ("title: ' '", "variants.one.title: is empty"),
    ],
)
def test_a_variant_that_cannot_run_is_refused(tmp_path: Path, line: str, message: str) -> None:
    values = {"title": "title: T", "objectives": "objectives: [{name: contrastive}]"}
    values[line.partition(":")[0]] = line
    path = tmp_path / "variants.yaml"
    path.write_text("variants:\n  one:\n" + "".join(f"    {value}\n" for value in values.values()))
    with pytest.raises(RegroupError) as error:
        load_variants(path)
    assert message in str(error.value)


def keys(value: Any) -> Any:
    """The keys of nested mappings, whatever their values."""
    return {str(key): keys(part) for key, part in value.items()} if isinstance(value, dict) else None


def missing(filled: Any, written: Any, path: str = "") -> Iterator[str]:
    for key, part in (filled or {}).items():
        if not isinstance(written, dict) or key not in written:
            yield f"{path}{key}"
        else:
            yield from missing(part, written[key], f"{path}{key}.")


def test_every_knob_is_in_params_yaml() -> None:
    """But for what its first lines name: looks of drawn datasets, recipes of shipped checkpoints."""
    params = load_params(ROOT / "params.yaml")
    filled = keys(params.model_dump(mode="json", by_alias=True))
    filled["evaluate"] = {
        name: keys(one.options.model_dump(mode="json")) for name, one in params.evaluate.items()
    }
    absent = set(missing(filled, keys(read_yaml(ROOT / "params.yaml"))))
    looks = {f"world.{source}_style" for source in ("web", "coco", "voc12", "context", "ade")}
    recipe = {f"pretrain.{name}.{key}" for name, one in filled["pretrain"].items() for key in one}
    recipe |= {f"checkpoints.{name}.{key}" for name in filled["checkpoints"] for key in filled["checkpoint"]}
    assert not absent - looks - recipe
