"""Known answers for the angles between the kernels of different seeds, and the stage's plan."""

import numpy as np
import pytest
import torch
from conftest import edit, planned

from twophase.measures.seeds import angles_to_others
from twophase.stages.across_seeds import across_seeds
from twophase.store.artifacts import read_table, write_tensors
from twophase.study import stages, studyfile
from twophase.study.kernel import kernel_steps
from twophase.study.run import runs


def test_the_same_directions_have_no_angle_and_independent_ones_a_right_one():
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(30, 30, generator=generator, dtype=torch.float64)
    same = torch.stack([kernel, 7 * kernel, 1e-3 * kernel])
    assert angles_to_others(same).tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    for count in (2, 3, 10):
        independent = torch.randn(count, 200, 200, generator=generator)
        assert angles_to_others(independent).tolist() == pytest.approx([90] * count, abs=1.5)
    assert angles_to_others(kernel[None]).isnan().all()


def test_angles_in_a_plane_are_those_to_the_middle_of_the_others():
    degrees = torch.tensor([0.0, 10.0, 50.0], dtype=torch.float64)
    points = torch.stack([degrees.deg2rad().cos(), degrees.deg2rad().sin()], 1)
    assert angles_to_others(points[:2]).tolist() == pytest.approx([10, 10], rel=1e-9)
    assert angles_to_others(points).tolist() == pytest.approx([30, 15, 45], rel=1e-9)


def test_the_tables_of_all_runs_agree_with_a_plain_second_implementation(raw, write_study, in_tmp):
    raw |= {"seeds": [3, 5, 8], "across_seeds": {}}
    study = studyfile.load(write_study(raw))
    rng = np.random.default_rng(0)
    kernels = {}
    for run in runs(study):
        for t in kernel_steps(run):
            kernel = rng.standard_normal((4, 4)) + 1
            kernels[run.name, run.seed, t] = kernel / np.linalg.norm(kernel)
            # Of any scale.
            tensors = {"kernel": torch.from_numpy(kernel * (1 + t) * run.seed)}
            write_tensors(stages.kernel_file(run, t), tensors)
    across_seeds(study)
    for run in runs(study):
        table = read_table(stages.run_table(run, "across_seeds"))
        assert table["t"].tolist() == kernel_steps(run)
        for t, angle in zip(table["t"], table["angle"], strict=True):
            own = kernels[run.name, run.seed, t]
            mean = sum(kernels[run.name, seed, t] for seed in study.seeds if seed != run.seed)
            cosine = (own * mean).sum() / np.linalg.norm(mean)
            assert angle == pytest.approx(np.degrees(np.arccos(cosine)), rel=1e-9)


@pytest.mark.parametrize("whole", [False, True])
def test_one_job_reads_the_kernels_of_all_runs(whole, tmp_path, copy_checkout):
    folder = copy_checkout(tmp_path)
    study = folder / "workflow/config/smoke.yaml"
    edit(study, "seeds: [0]", "seeds: [0, 1]\nacross_seeds: {}")
    if whole:
        edit(folder / "workflow/config/config.yaml", "whole_runs: [", "whole_runs: [smoke, ")
    jobs = planned(folder, "figures/smoke/all")
    assert jobs["across_seeds"] == 1
    assert jobs.get("run", 0) == 4 * whole
    assert jobs.get("kernel", 0) == 4 * (not whole)


def test_another_seed_makes_the_angles_stale_and_no_kernel(raw, write_study):
    raw |= {"seeds": [0, 1], "across_seeds": {}}
    before = studyfile.load(write_study(raw))
    raw["seeds"] = [0, 1, 2]
    after = studyfile.load(write_study(raw))
    for name, same in (("across_seeds", False), ("cone", True), ("kernel", True)):
        paths = [stages.run_table(runs(study)[0], name).path for study in (before, after)]
        assert (paths[0] == paths[1]) == same
