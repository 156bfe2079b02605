"""Figures on disk: the same bytes wherever they are drawn, and the data behind them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from regroup.drawing import style
from regroup.drawing.figures import Caption, save_figure

DRAW = """
import sys
from pathlib import Path
import numpy as np
from regroup.drawing import style
from regroup.drawing.figures import save_figure
with style.settings():
    page = style.Page(2.0)
    axes = page.axes(0.5, 0.5, 3, 1)
    axes.plot([0, 1, 2], [3, 1, 2], label="a")
    axes.imshow(np.arange(12).reshape(3, 4))
    axes.legend()
    page.text(0, 0.1, "text")
save_figure(page.figure, Path(sys.argv[1]) / "figure", {"b": np.arange(3), "a": np.eye(2)})
"""


def draw(folder: Path, **environment: str) -> list[bytes]:
    subprocess.run([sys.executable, "-c", DRAW, str(folder)], check=True, env={**os.environ, **environment})
    return [path.read_bytes() for path in sorted(folder.iterdir())]


def test_bytes_do_not_depend_on_process_time_zone_or_the_users_settings(tmp_path: Path) -> None:
    settings = tmp_path / "settings"
    settings.mkdir()
    (settings / "matplotlibrc").write_text("font.size: 20\nsvg.fonttype: none\naxes.facecolor: red\n")
    first = draw(tmp_path / "a", PYTHONHASHSEED="1", TZ="UTC")
    again = draw(tmp_path / "b", PYTHONHASHSEED="2", TZ="Asia/Tokyo", MPLCONFIGDIR=str(settings))
    assert len(first) == 3
    assert first == again


def blank() -> Figure:
    return style.Page(1.0).figure


def test_nothing_about_time_or_versions_is_written(tmp_path: Path) -> None:
    png, svg, _ = save_figure(blank(), tmp_path / "figure", {})
    with Image.open(png) as image:
        assert set(image.info) <= {"dpi"}
        assert image.size == (round(style.PAGE_WIDTH * style.DPI), style.DPI)
    text = svg.read_text()
    assert "dc:date" not in text
    assert "atplotlib v" not in text


def test_the_data_can_be_read_back_without_pickle(tmp_path: Path) -> None:
    data = {"names": np.array(["cat", "dög"]), "mask": np.arange(6, dtype=np.uint8).reshape(2, 3)}
    *_, npz = save_figure(blank(), tmp_path / "deep.name" / "figure.1", data)
    assert npz.name == "figure.1.npz"
    with np.load(npz, allow_pickle=False) as stored:
        assert stored.files == ["mask", "names"]
        assert stored["mask"].dtype == np.uint8
        np.testing.assert_array_equal(stored["mask"], data["mask"])
        assert stored["names"].tolist() == ["cat", "dög"]


def test_a_caption_stands_beside_the_figure(tmp_path: Path) -> None:
    caption = Caption("Segments", "Images and their segments.", (1, 9), "mini")
    *_, sidecar = save_figure(blank(), tmp_path / "figure", {}, caption=caption)
    assert sidecar == tmp_path / "figure.json"
    assert json.loads(sidecar.read_text()) == {
        "title": "Segments",
        "caption": "Images and their segments.",
        "thesis": [1, 9],
        "profile": "mini",
    }


def test_objects_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="arrays of objects cannot be stored: odd"):
        save_figure(blank(), tmp_path / "figure", {"odd": np.array([{}], dtype=object)})
    assert not list(tmp_path.iterdir())


def test_palette_is_of_distinct_colours_that_stand_off_white_and_text() -> None:
    assert len(set(style.PALETTE)) == 24
    colours = np.array([[int(c[k : k + 2], 16) for k in (1, 3, 5)] for c in style.PALETTE]) / 255
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    ink = 0.016  # of #1f2328
    # contrast of the ink of the labels on the colour (WCAG's ratio), without the white halo they also have
    assert ((luminance + 0.05) / (ink + 0.05)).min() > 1.9
    distances = np.abs(colours[:, None] - colours[None]).max(axis=2) + np.eye(24)
    assert distances.min() > 0.05


@pytest.mark.parametrize("name", [r"a $\frac{$ b", "$x$ and $y$", r"\$5", "_hidden", "50% {x}"])
def test_names_in_figures_are_no_mathematics(name: str, tmp_path: Path) -> None:
    """Neither misprinted nor a traceback, and none is left out of the legend."""
    from regroup.report.learning import Line, draw_learning

    line = Line(np.arange(3.0), np.ones((1, 3)))
    drawn = draw_learning({name: {name: line, "other": line}}, 1.0, dataset=name, profile="full", drawn=False)
    drawn.save(tmp_path)
    axes = drawn.figure.axes[0]
    assert axes.get_title(loc="left") == name
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [name, "other"]
    texts = drawn.figure.findobj(lambda one: hasattr(one, "get_parse_math"))
    assert not any(text.get_parse_math() for text in texts if name in text.get_text())


def test_logarithmic_axes_still_print_powers(tmp_path: Path) -> None:
    from regroup.captions.noun_report import Noun, rank_frequency_figure

    nouns = [Noun(f"n{k}", 10**6 // k, 10**6 // k, 1) for k in range(1, 2000)]
    figure = rank_frequency_figure(nouns, [("freq1k", 1000)], profile="$a$")
    save_figure(figure, tmp_path / "noun", {})
    ticks = [label for label in figure.axes[0].get_yticklabels() if "10^" in label.get_text()]
    assert ticks
    assert all(label.get_parse_math() for label in ticks)
    assert "$a$" in figure.axes[0].get_title(loc="left")
