"""The drawn world: same seed same bytes, labels that say what is seen, files that common readers open."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from regroup.sources.make import make_source
from regroup.sources.manifest import raw_root, read_manifest
from regroup.sources.mini.drawn.voc12 import voc_palette
from regroup.sources.mini.files import scenes
from regroup.sources.mini.glyphs import CLUTTER, glyph
from regroup.sources.mini.names import drawn_names, load_names, world_id
from regroup.sources.mini.scenes import NOTHING, draw_scene
from regroup.sources.settings import Style, WorldParams

WORLD = WorldParams(
    coco_train=30,
    coco_val=12,
    voc12_train=6,
    voc12_val=20,
    context_train=4,
    context_val=20,
    ade_train=3,
    ade_val=20,
    web=12,
    classes_train=3,
    classes_val=2,
)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    for name in ("coco", "voc12", "context", "ade", "web", "classes"):
        make_source(name, "mini", folder / name, world=WORLD)
    return folder


def _open(path: Path) -> Image.Image:
    """An image that keeps no file open."""
    with Image.open(path) as image:
        image.load()
        return image


def _bytes(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def test_same_seed_same_bytes_other_seed_other_pictures(raw: Path, tmp_path: Path) -> None:
    make_source("coco", "mini", tmp_path / "again", world=WORLD)
    assert _bytes(raw / "coco") == _bytes(tmp_path / "again")
    make_source("coco", "mini", tmp_path / "other", world=WORLD.model_copy(update={"seed": 8}))
    name = "train2017/000000000001.jpg"
    assert (raw / "coco" / name).read_bytes() != (tmp_path / "other" / name).read_bytes()
    assert read_manifest(raw / "coco").digest != read_manifest(tmp_path / "other").digest


def test_a_scene_does_not_depend_on_the_scenes_before_it() -> None:
    things = load_names().things
    few = list(scenes("web", "train", 3, things, Style(), WORLD))
    many = list(scenes("web", "train", 9, things, Style(), WORLD))
    for (_, one, _), (_, other, _) in zip(few, many, strict=False):
        assert one.image.tobytes() == other.image.tobytes()


def test_every_glyph_is_in_the_font() -> None:
    pictures = {c: glyph(c).tobytes() for concept in load_names().concepts for c in concept.glyphs}
    pictures |= {c: glyph(c).tobytes() for c in CLUTTER}
    assert len(set(pictures.values())) == len(pictures), "two characters look the same: the font lacks one"


def test_masks_tell_object_and_ground_apart() -> None:
    """What the map calls a red sign is red in the picture, and nothing else is (style without any shift)."""
    sign = next(c for c in load_names().things if c.name == "stop sign")
    plain = Style(hue_jitter=0, noise=0, objects=(1, 1), scenery=0)
    rng = np.random.default_rng(3)
    for _ in range(5):
        scene = draw_scene(plain, (sign,), sign, 96, rng)
        red, green, blue = np.asarray(scene.image).astype(int).transpose(2, 0, 1)
        is_red = (red > 150) & (green < 90) & (blue < 90)
        inside = scene.concepts == world_id("stop sign")
        assert is_red[inside].mean() > 0.4
        assert is_red[~inside].mean() < 0.01
        assert [thing.concept.name for thing in scene.things] == ["stop sign"]


def test_coco_instances_agree_with_the_pixel_maps(raw: Path) -> None:
    root = raw_root(raw / "coco")
    coco = COCO()
    coco.dataset = json.loads((root / "annotations/instances_val2017.json").read_text())
    coco.createIndex()
    assert len(coco.getCatIds()) == 80
    assert coco.loadCats([90])[0]["name"] == "toothbrush"
    for image_id in coco.getImgIds():
        record = coco.loadImgs([image_id])[0]
        pixels = np.asarray(_open(root / f"stuffthingmaps/val2017/{image_id:012d}.png"))
        assert pixels.shape == (record["height"], record["width"])
        assert _open(root / "val2017" / record["file_name"]).size == (record["width"], record["height"])
        from_instances = np.zeros_like(pixels)
        for annotation in coco.loadAnns(coco.getAnnIds([image_id])):
            mask = coco.annToMask(annotation).astype(bool)
            assert mask.sum() == annotation["area"]
            assert not from_instances[mask].any(), "objects hide each other: no pixel has two"
            from_instances[mask] = annotation["category_id"]
        things = np.where(pixels <= 90, pixels + 1, 0)
        # objects too small to be labelled are in the pixel map only
        assert (things != from_instances).mean() < 0.01
        assert (things[from_instances > 0] == from_instances[from_instances > 0]).all()


def test_coco_has_five_captions_an_image_that_name_what_is_seen(raw: Path) -> None:
    root = raw_root(raw / "coco")
    content = json.loads((root / "annotations/captions_train2017.json").read_text())
    assert len({a["id"] for a in content["annotations"]}) == 5 * len(content["images"]) == 150
    words = {c.coco[0]: {w for pair in c.nouns for w in pair} for c in load_names().things if c.coco}
    named = 0
    for image in content["images"]:
        pixels = np.asarray(_open(root / f"stuffthingmaps/train2017/{image['id']:012d}.png"))
        seen = set().union(*(words[i + 1] for i in np.unique(pixels).tolist() if i + 1 in words))
        captions = [a["caption"] for a in content["annotations"] if a["image_id"] == image["id"]]
        named += sum(any(f" {w}" in f" {c.lower().rstrip('.')}" for w in seen) for c in captions)
    assert named >= 0.9 * 150


def test_voc_maps_are_palette_pngs_with_true_ids(raw: Path) -> None:
    root = raw_root(raw / "voc12") / "VOCdevkit/VOC2012"
    stems = (root / "ImageSets/Segmentation/val.txt").read_text().split()
    assert len(stems) == 20
    seen: set[int] = set()
    for stem in stems:
        label = _open(root / f"SegmentationClass/{stem}.png")
        assert label.mode == "P"
        # published colours of VOC's map: aeroplane, person, tvmonitor, void
        palette = label.getpalette() or []
        assert [tuple(palette[3 * i : 3 * i + 3]) for i in (1, 15, 20, 255)] == [
            (128, 0, 0), (192, 128, 128), (0, 64, 128), (224, 224, 192)
        ]  # fmt: skip
        seen |= set(np.unique(np.asarray(label)).tolist())
        assert _open(root / f"JPEGImages/{stem}.jpg").size == label.size
    assert {0, 255} <= seen <= {*range(21), 255}
    assert 11 not in seen, "the world has no table"
    assert len(voc_palette()) == 768


def test_context_and_ade_label_stuff(raw: Path) -> None:
    context = raw_root(raw / "context") / "VOCdevkit/VOC2010/SegmentationClassContext"
    ade = raw_root(raw / "ade") / "ADEChallengeData2016/annotations/validation"
    for folder, most, stuff in ((context, 59, {29, 47}), (ade, 150, {3, 10})):
        seen: set[int] = set()
        for path in sorted(folder.glob("*.png")):
            label = _open(path)
            assert label.mode == "L"
            seen |= set(np.unique(np.asarray(label)).tolist())
        assert stuff <= seen <= set(range(most + 1)), "grass and sky"


def test_web_maps_are_in_the_worlds_own_ids(raw: Path) -> None:
    root = raw_root(raw / "web")
    classes = json.loads((root / "annotations/classes.json").read_text())
    assert [c["id"] for c in classes] == list(range(len(classes)))
    assert next(c for c in classes if c["name"] == "sofa")["names"] == ["couch", "sofa"]
    for path in sorted((root / "stuffthingmaps/train2017").glob("*.png")):
        assert set(np.unique(np.asarray(_open(path))).tolist()) <= {*range(len(classes)), NOTHING}


@pytest.mark.parametrize(
    ("dataset", "protocol"),
    [("voc12", "voc"), ("context", "context60"), ("coco", "coco_object_stuffthingmaps"), ("ade", "ade150")],
)
def test_drawn_names_are_names_and_ids_of_the_protocol(dataset: str, protocol: str) -> None:
    segmentation = pytest.importorskip("regroup.segmentation.protocols")
    names = [str(name) for name in segmentation.load_protocol(protocol).classes]
    drawn = drawn_names(dataset)
    places = [names.index(name) for name in drawn]
    assert places == sorted(places)
    key = {"voc12": "voc"}.get(dataset, dataset)
    for concept in load_names().concepts:
        label = getattr(concept, key)
        if label is not None and dataset != "coco":
            offset = 1 if names[0] != "background" else 0
            assert names[label[0] - offset] == label[1]


def test_captions_have_the_nouns_they_were_made_of(raw: Path) -> None:
    tagging = pytest.importorskip("regroup.captions.tagging")
    weights = pytest.importorskip("regroup.captions.weights")
    content = json.loads((raw_root(raw / "coco") / "annotations/captions_train2017.json").read_text())
    captions = [a["caption"] for a in content["annotations"]]
    vocabulary = {word for concept in load_names().concepts for pair in concept.nouns for word in pair}
    made = [{w for w in c.rstrip(".").split() if w in vocabulary} for c in captions]
    found = tagging.CaptionTagger(weights.load_weights("textblob")).find(captions)
    hit = sum(len(words & set(nouns.nouns)) for words, nouns in zip(made, found, strict=True))
    assert hit >= 0.85 * sum(len(words) for words in made)


def test_a_class_folder_shows_its_thing_alone(raw: Path, tmp_path: Path) -> None:
    root = raw_root(raw / "classes")
    things = load_names().things
    for split, count in (("train", 3), ("val", 2)):
        folders = sorted(path.name for path in (root / split).iterdir())
        assert folders == sorted(thing.name.replace(" ", "_") for thing in things)
        assert {len(list((root / split / folder).glob("*.jpg"))) for folder in folders} == {count}
    pictures = [path.read_bytes() for path in root.rglob("*.jpg")]
    assert len(set(pictures)) == len(pictures) == 5 * len(things)
    dog = next(thing for thing in things if thing.name == "dog")
    for _, scene, _ in scenes("classes/dog", "val", 2, (dog,), WORLD.classes_style, WORLD):
        assert [thing.concept.name for thing in scene.things if not thing.scenery] == ["dog"]
    more = WORLD.model_copy(update={"classes_val": 4})
    make_source("classes", "mini", tmp_path / "more", world=more)
    few = _bytes(root)
    del few["manifest.json"]
    assert few.items() <= _bytes(tmp_path / "more").items(), "more pictures leave the first as they are"
