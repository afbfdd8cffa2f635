import matplotlib.pyplot as plt
import pytest
from conftest import CONFIG

from twophase.figures import style
from twophase.study import studyfile


@pytest.mark.parametrize(
    ("drawn", "scale"), [([1.0, 9.0], "linear"), ([0.0, 1e-5, 1e-3], "log"), ([0.0, 0.0], "linear")]
)
def test_an_axis_is_logarithmic_only_where_lines_span_a_factor_of_ten(drawn, scale):
    figure, ax = plt.subplots()
    ax.plot(drawn, clip_on=False)
    style.logarithmic(ax)
    assert ax.get_yscale() == scale
    figure.canvas.draw()
    # A zero does not reach down to where a logarithm of almost nothing would lie.
    box = figure.get_tightbbox()
    assert box.height < 2 * figure.get_figheight()
    plt.close(figure)


def test_a_value_looks_the_same_wherever_it_is_drawn():
    looks = style.looks([300, 0, 100])
    assert list(looks) == [0, 100, 300]
    assert looks[300] == {"color": style.SEQUENTIAL(0.9), "marker": "D"}
    many = style.looks(range(20))  # more than there are markers
    assert len({look["color"] for look in many.values()}) == 20


@pytest.mark.parametrize("directions", [1, 2])
def test_the_small_print_of_the_default_study_fits_on_the_page(directions):
    digits = studyfile.load(CONFIG / "digits.yaml")
    models = {}
    for name, model in digits.models.items():
        chaos = model.chaos.model_copy(update={"directions": directions})
        models[name] = model.model_copy(update={"chaos": chaos})
    digits = digits.model_copy(update={"models": models})
    figure, _ = style.grid(1, 3, 2.2)
    runs = style.runs_note(digits, forks=True)
    style.note(figure, digits, f"Left: {style.perturbation_note(digits)}; {runs}.")
    figure.canvas.draw()
    assert figure._supxlabel.get_window_extent().x1 < figure.bbox.x1
    plt.close(figure)
