import matplotlib
import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from cmw_pipeline.tables.figures import accuracy_figure, curves_beside, weighting_figure
from cmw_pipeline.tables.published import published_weighting

LOSSES = np.linspace(0, 10, 50)


def draw_weighting(path, groups=3, flipped=40):
    rng = np.random.default_rng(0)
    curves = np.stack([1 / (1 + np.exp(LOSSES - 2 - group)) for group in range(groups)])
    names = [f"group {group}" for group in range(groups)]
    weighting_figure(path, LOSSES, curves, names, rng.random(80), rng.random(flipped), "A run")


def points(panels=2, seeds=3):
    return pd.DataFrame(
        [
            {"panel": f"panel {p}", "method": f"method {m}", "seed": s, "value": 80.0 + 5 * m + s + p}
            for p in range(panels)
            for m in range(3)
            for s in range(seeds)
        ]
    )


def colours(path):
    """How many distinct colours: an empty figure has a handful."""
    pixels = np.round(255 * matplotlib.image.imread(path)).astype(np.uint8)
    return len(np.unique(pixels.view(np.uint32)))


def test_same_data_same_bytes_whatever_the_users_style(tmp_path):
    draw_weighting(tmp_path / "a.png")
    accuracy_figure(tmp_path / "c.png", points(), "accuracy")
    with matplotlib.rc_context({"font.size": 20, "savefig.dpi": 30, "axes.grid": False}):
        draw_weighting(tmp_path / "b.png")
        accuracy_figure(tmp_path / "d.png", points(), "accuracy")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "c.png").read_bytes() == (tmp_path / "d.png").read_bytes()
    assert b"matplotlib" not in (tmp_path / "a.png").read_bytes().lower()


@pytest.mark.parametrize(("groups", "flipped"), [(1, 0), (3, 40), (7, 1)])
def test_weighting_figure_of_any_number_of_groups(tmp_path, groups, flipped):
    draw_weighting(tmp_path / "a.png", groups, flipped)
    assert colours(tmp_path / "a.png") > 50


@pytest.mark.parametrize(("panels", "seeds"), [(1, 1), (5, 2)])
def test_accuracy_figure_of_any_number_of_panels(tmp_path, panels, seeds):
    accuracy_figure(tmp_path / "a.png", points(panels, seeds), "accuracy")
    assert colours(tmp_path / "a.png") > 50


def test_panels_that_share_few_methods_have_lines_for_their_own_only(tmp_path):
    """Of 18 methods each panel has 3: one below the other they need less room than all lines in each."""
    apart = points(6)
    apart["method"] = apart["panel"] + ", " + apart["method"]
    accuracy_figure(tmp_path / "apart.png", apart, "accuracy")
    accuracy_figure(tmp_path / "together.png", points(6), "accuracy")
    tall, wide = (matplotlib.image.imread(tmp_path / f"{name}.png").shape for name in ("apart", "together"))
    assert tall[0] > tall[1]
    assert wide[0] < wide[1]
    assert colours(tmp_path / "apart.png") > 50


def test_the_published_function_is_that_of_its_weight_net_and_can_be_drawn_beside_ours(tmp_path):
    published = published_weighting()
    assert list(published) == ["loss", "small", "moderate", "large"]
    assert (published["small"].diff().dropna() > 0).all()  # trusted the more, the larger the loss
    assert (published["large"].diff().dropna() < 0).all()
    for name in ("a.png", "b.png"):
        curves_beside(tmp_path / name, published.assign(small=0.5), published)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
