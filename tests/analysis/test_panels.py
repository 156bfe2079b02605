"""Qualitative panels: what is on them, and that colours mean the same class in every column."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from regroup.analysis.panels import PanelSample, panel_data, qualitative_panel
from regroup.drawing import style
from regroup.drawing.figures import save_figure

NAMES = ("background", "cat", "dog", "kite")


def sample(label: str = "", *, prediction: int = 1) -> PanelSample:
    """A cat at the left of 40 x 60 pixels, a strip without score at the right."""
    truth = np.zeros((40, 60), np.uint8)
    truth[5:35, 5:30] = 1
    truth[:, 50:] = 255
    predicted = np.zeros((40, 60), np.int64)
    predicted[5:35, 5:30] = prediction
    image = np.full((40, 60, 3), 128, np.uint8)
    return PanelSample(image, truth, {"original": predicted * 0, "fine-tuned": predicted}, NAMES, label=label)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def picture(figure: Figure, column: int) -> NDArray[np.uint8]:
    return np.asarray(figure.axes[column].get_images()[0].get_array())


def middle(figure: Figure, column: int) -> list[int]:
    """The colour in the middle of the cat's region, clear of its name."""
    image = picture(figure, column)
    return [int(v) for v in image[image.shape[0] * 12 // 40, image.shape[1] * 10 // 60]]


def test_columns_rows_and_legend_are_named() -> None:
    figure = qualitative_panel(
        [sample("COCO"), sample("PVOC")], title="Masks", profile="full", drawn=False, footnote="A note."
    )
    shown = texts(figure)
    assert shown[0] == "Masks (full)"
    assert shown[1:5] == ["image", "ground truth", "original", "fine-tuned"]
    assert {"COCO", "PVOC", "A note."} <= set(shown)
    assert len(figure.axes) == 8


def test_the_legend_has_the_classes_that_appear_and_no_others() -> None:
    shown = texts(qualitative_panel([sample(prediction=2)], title="T", profile="full", drawn=False))
    assert {"cat", "dog", "background", "not scored"} <= set(shown)
    assert "kite" not in shown


def test_mini_is_named_and_its_glyphs_attributed() -> None:
    shown = " ".join(texts(qualitative_panel([sample()], title="T", profile="mini", drawn=True)))
    assert "T (mini)" in shown
    assert "OpenMoji" in shown
    assert "CC BY-SA 4.0" in shown
    full = " ".join(texts(qualitative_panel([sample()], title="T", profile="full", drawn=False)))
    assert "mini" not in full
    assert "OpenMoji" not in full


def test_a_class_has_one_colour_and_the_background_none() -> None:
    figure = qualitative_panel([sample()], title="T", profile="full", drawn=False)
    truth, original, tuned = (middle(figure, column) for column in (1, 2, 3))
    assert truth == tuned
    assert max(original) - min(original) == 0
    colour = 255 * np.array(to_rgb(style.PALETTE[0]))
    assert np.abs(np.array(truth) - colour).max() < 70
    assert (np.argsort(truth) == np.argsort(colour)).all()


def test_another_class_has_another_colour() -> None:
    figure = qualitative_panel([sample(prediction=2)], title="T", profile="full", drawn=False)
    assert middle(figure, 1) != middle(figure, 3)


def test_pixels_without_score_are_hatched() -> None:
    strip = picture(qualitative_panel([sample()], title="T", profile="full", drawn=False), 1)[:, -40:]
    assert set(np.unique(strip).tolist()) == {170, 255}


def test_names_stand_on_their_regions() -> None:
    figure = qualitative_panel([sample(prediction=2)], title="T", profile="full", drawn=False)
    written = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert written == [[], ["cat"], [], ["dog"]]
    (name,) = figure.axes[1].texts
    x, y = name.get_position()
    height, width, _ = picture(figure, 1).shape
    assert 5 / 60 < x / width < 30 / 60
    assert 5 / 40 < y / height < 35 / 40


def test_specks_get_no_name() -> None:
    one = sample()
    speck = np.zeros((40, 60), np.int64)
    speck[20, 20] = 3
    figure = qualitative_panel(
        [PanelSample(one.image, one.truth, {"a": speck}, NAMES)], title="T", profile="full", drawn=False
    )
    assert not figure.axes[2].texts


def test_the_same_samples_give_the_same_bytes(tmp_path: Path) -> None:
    written = []
    for name in ("a", "b"):
        figure = qualitative_panel([sample("COCO")], title="T", profile="mini", drawn=True)
        paths = save_figure(figure, tmp_path / name / "panel", panel_data([sample("COCO")]))
        written.append([path.read_bytes() for path in paths])
    assert written[0] == written[1]


def test_the_data_behind_a_panel_is_all_there() -> None:
    data = panel_data([sample(), sample(prediction=3)])
    assert sorted(data) == sorted(
        f"{row:02}/{part}"
        for row in (0, 1)
        for part in ("image", "truth", "class_names", "prediction/original", "prediction/fine-tuned")
    )
    np.testing.assert_array_equal(
        data["01/prediction/fine-tuned"], sample(prediction=3).predictions["fine-tuned"]
    )


def test_faulty_samples_are_named() -> None:
    good = sample()
    with pytest.raises(ValueError, match=r"fine: mask is \(40, 59\), but the image is \(40, 60\)"):
        PanelSample(good.image, good.truth, {"fine": good.truth[:, :-1]}, NAMES)
    with pytest.raises(ValueError, match="fine: no class name for id 4; there are 4"):
        PanelSample(good.image, good.truth, {"fine": good.truth * 0 + 4}, NAMES)
    with pytest.raises(ValueError, match="image: must be H x W x 3 of uint8"):
        PanelSample(good.image / 255, good.truth, {}, NAMES)
    with pytest.raises(ValueError, match="at least one"):
        qualitative_panel([], title="T", profile="full", drawn=False)
    other = PanelSample(good.image, good.truth, {"x": good.truth}, NAMES)
    with pytest.raises(ValueError, match="every sample must have the prediction columns"):
        qualitative_panel([good, other], title="T", profile="full", drawn=False)
