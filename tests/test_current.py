"""What is shown is current by what it says, and shows what its labels say."""

import json
from pathlib import Path

import numpy as np
import pytest

import twophase
from twophase import figures
from twophase.figures import drawing, manifest, panels
from twophase.study.tables import published_study

WHOLE = {
    ".pdf": "%PDF {}\n%%EOF\n",
    ".png": "PNG {} IEND\xaeB`\x82",
    ".md": "<!-- {} -->\n",
    ".txt": "A caption.\n\n{}\n",
}


@pytest.mark.parametrize("figure", ["fig3", "findings"])
def test_a_figure_is_current_if_it_is_whole_and_says_what_makes_it(figure, tmp_path):
    files = [tmp_path / name for name in figures.files(figure)]
    for file in files:
        file.write_bytes(WHOLE[file.suffix].format("made by 12345678").encode("latin-1"))
    assert figures.current(tmp_path, figure, "made by 12345678")
    assert not figures.current(tmp_path, figure, "made by 12345679")
    for file in files:
        content = file.read_bytes()
        file.write_bytes(content[:-1])
        assert not figures.current(tmp_path, figure, "made by 12345678")
        file.unlink()
        assert not figures.current(tmp_path, figure, "made by 12345678")
        file.write_bytes(content)


def test_a_manifest_is_that_of_the_study_file_as_it_is(raw, write_study, tmp_path, smoke):
    file = write_study(raw)
    (tmp_path / "manifest.json").write_text(json.dumps({"made_by": manifest.made_by(smoke, file)}))
    assert manifest.current(smoke, file, tmp_path)
    file.write_text(file.read_text() + "# A note.\n")
    assert not manifest.current(smoke, file, tmp_path)


SHOWN = {
    "parameter dissimilarity $C$": "dissimilarity",
    "test loss barrier (nats)": "test_barrier",
    "test disagreement (share)": "disagreement",
}


def test_figure_3_shows_the_middle_of_perturbed_forks(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[1])
    study, file = published_study("digits")
    tables = drawing.published_tables(study, file, "fig3")
    figure = panels.composed(figures.load("fig3").draw(study, tables))
    chaos = twophase.load("digits", "chaos", published=True)
    chaos = chaos[chaos["direction"] != "control"]
    models = list(study.models)
    assert len(figure.axes) == 3 * len(models)
    for index, ax in enumerate(figure.axes):
        model, measure = models[index // 3], SHOWN[ax.get_ylabel()]
        drawn = [line for line in ax.lines if line.get_linewidth() > 1 and len(line.get_xdata())]
        forks = sorted(study.models[model].chaos.forks)
        for t0, line in zip(forks, drawn, strict=True):
            runs = chaos[(chaos["model"] == model) & (chaos["t0"] == t0)].groupby("t1")[measure]
            middle = runs.mean() if ax.get_yscale() == "linear" else runs.median()
            assert np.array_equal(line.get_xdata(), middle.index)
            assert line.get_ydata() == pytest.approx(middle.to_numpy())
