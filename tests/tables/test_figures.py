import matplotlib
import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from cmw_pipeline.tables import canvas
from cmw_pipeline.tables.figures import bar_figure, curves_beside, risk_figure, weighting_figure
from cmw_pipeline.tables.points import Band, accuracy_figure
from cmw_pipeline.tables.published import published_weighting

LOSSES = np.linspace(0, 10, 50)


def draw_weighting(path, groups=3, flipped=40, unknown=0):
    rng = np.random.default_rng(0)
    curves = np.stack([1 / (1 + np.exp(LOSSES - 2 - group)) for group in range(groups)])
    names = [f"group {group}" for group in range(groups)]
    weighting_figure(
        path, LOSSES, curves, names, rng.random(80), rng.random(flipped), rng.random(unknown), "A run"
    )


def points(panels=2, seeds=3):
    return pd.DataFrame(
        [
            {"panel": f"panel {p}", "method": f"method {m}", "seed": s, "value": 80.0 + 5 * m + s + p}
            for p in range(panels)
            for m in range(3)
            for s in range(seeds)
        ]
    )


def draw_points(path, points):
    """All panels with all methods."""
    panels, methods = (list(dict.fromkeys(points[name])) for name in ("panel", "method"))
    accuracy_figure(path, points, [Band(panels, methods)], "accuracy")


def colours(path):
    """How many distinct colours: an empty figure has a handful."""
    pixels = np.round(255 * matplotlib.image.imread(path)).astype(np.uint8)
    return len(np.unique(pixels.view(np.uint32)))


def test_same_data_same_bytes_whatever_the_users_style(tmp_path):
    draw_weighting(tmp_path / "a.png")
    draw_points(tmp_path / "c.png", points())
    with matplotlib.rc_context({"font.size": 20, "savefig.dpi": 30, "axes.grid": False}):
        draw_weighting(tmp_path / "b.png")
        draw_points(tmp_path / "d.png", points())
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "c.png").read_bytes() == (tmp_path / "d.png").read_bytes()
    assert b"matplotlib" not in (tmp_path / "a.png").read_bytes().lower()


@pytest.mark.parametrize(("groups", "flipped", "unknown"), [(1, 0, 0), (3, 40, 5), (7, 1, 90)])
def test_weighting_figure_of_any_number_of_groups(tmp_path, groups, flipped, unknown):
    draw_weighting(tmp_path / "a.png", groups, flipped, unknown)
    assert colours(tmp_path / "a.png") > 50


@pytest.mark.parametrize(("panels", "seeds"), [(1, 1), (5, 2)])
def test_accuracy_figure_of_any_number_of_panels(tmp_path, panels, seeds):
    draw_points(tmp_path / "a.png", points(panels, seeds))
    assert colours(tmp_path / "a.png") > 50


@pytest.fixture
def drawn(monkeypatch):
    """The figures, before they become pixels."""
    kept = []
    monkeypatch.setattr(canvas, "save", lambda figure, path: kept.append(figure))
    return kept


LONG = "digits\n35% feature-dependent label noise, Type III (plc), then 30% asymmetric label noise (plc)"


@pytest.mark.parametrize("panels", [1, 2, 5, 9])
@pytest.mark.parametrize("method", ["ERM", "CMW-Net, bounded levels (cmw-net-noise-bounded) of a long name"])
def test_no_text_lies_on_another_or_over_the_edge(tmp_path, drawn, panels, method):
    rows = points(panels).replace({f"panel {n}": f"{n} {LONG}" for n in range(panels)})
    draw_points(tmp_path / "a.png", rows.replace({"method 1": method}))
    (figure,) = drawn
    figure.draw_without_rendering()
    texts = [ax.title for ax in figure.axes] + [label for ax in figure.axes for label in ax.get_yticklabels()]
    texts += [text for ax in figure.axes for text in ax.texts]
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    assert len(boxes) > 3 * panels
    assert not [(a, b) for n, a in enumerate(boxes) for b in boxes[:n] if a.overlaps(b)]
    assert all(figure.bbox.padded(1).containsx(x) for box in boxes for x in (box.x0, box.x1))


def test_each_panel_has_an_axis_on_which_97_and_98_lie_apart(tmp_path, drawn):
    rows = points()
    rows["value"] = [{"panel 0": 30.0, "panel 1": 97.0}[panel] for panel in rows["panel"]]
    rows.loc[(rows["panel"] == "panel 1") & (rows["method"] == "method 2"), "value"] = 98.0
    draw_points(tmp_path / "a.png", rows)
    low, high = drawn[0].axes[1].get_xlim()
    assert high - low < 10
    assert {"97.00", "98.00"} <= {text.get_text() for text in drawn[0].axes[1].texts}


def test_a_panel_has_the_lines_of_its_own_methods_only(tmp_path, drawn):
    rows = points(3)
    rows["method"] = rows["panel"] + ", " + rows["method"]
    bands = [Band([panel], list(dict.fromkeys(own["method"]))) for panel, own in rows.groupby("panel")]
    accuracy_figure(tmp_path / "a.png", rows, bands, "accuracy")
    for ax, band in zip(drawn[0].axes, bands, strict=True):
        assert [label.get_text() for label in ax.get_yticklabels()] == band.methods


def test_no_colour_stands_for_two_methods(tmp_path, drawn):
    methods = [f"method {n}" for n in range(12)]
    rows = pd.DataFrame(
        [
            {"panel": "p", "group": "g", "method": method, "seed": 0, "value": 50.0, "coverage": 100.0}
            for method in methods
        ]
    )
    nothing = pd.DataFrame(columns=["panel", "group", "method", "value"])
    bar_figure(tmp_path / "a.png", rows, nothing, "accuracy")
    risk_figure(tmp_path / "b.png", rows)
    bars, curves = drawn
    assert len({bar.get_facecolor() for bar in bars.axes[0].patches}) == len(methods)
    assert len({line.get_color() for line in curves.axes[0].lines}) == len(methods)


def test_the_published_function_is_that_of_its_weight_net_and_can_be_drawn_beside_ours(tmp_path):
    published = published_weighting()
    assert list(published) == ["loss", "small", "moderate", "large"]
    assert (published["small"].diff().dropna() > 0).all()  # trusted the more, the larger the loss
    assert (published["large"].diff().dropna() < 0).all()
    for name in ("a.png", "b.png"):
        curves_beside(tmp_path / name, published.assign(small=0.5), published)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
