"""Stage `own_measures`: compare forks with their base run by functions of the user's own."""

import pandas as pd

from twophase.errors import RunError
from twophase.stages.own_stages import called, examples, network_at, numbers
from twophase.store.artifacts import check_origin, read_header, read_table, write_table
from twophase.study import stages
from twophase.study.chaos import alone, comparisons
from twophase.study.run import Run
from twophase.training.batches import load_data
from twophase.training.machine import prepare
from twophase.training.progress import progress


def own_measures(run: Run) -> None:
    """Write the table `own_measures` of one base run and all its forks.

    Table: study, model, seed, direction, t0, t1, then for each measure of the section `measures` a
    column of its name, or if it returns several numbers by name, `<measure>_<name>` for each. What
    is there already is kept.

    Raises `RunError` if a function fails or returns anything but numbers, or if fork and base run
    were made by other packages or on another kind of machine.
    """
    data = load_data(stages.data_file(run.study), run.study.data.images, prepare(run.study.compute))
    points, rows = comparisons(run), []
    with progress(f"own measures of {run}", len(points), "pair") as bar:
        for t0, direction, t1 in points:
            file = stages.own_measure(run, t0, direction, t1)
            if not file.path.exists():
                files = stages.base_state(run, t1), stages.fork_state(run, t0, direction, t1)
                origin = read_header(files[0].path)["origin"]
                check_origin(files[1].path, origin, str(files[0].path))
                called_there = alone(run, direction)[1]  # as the only one of its study
                row = {**run.identity, "direction": called_there, "t0": t0, "t1": t1}
                for name, own in sorted(run.model.measures.items()):
                    networks = [network_at(run, data, each, t1) for each in files]
                    said = called(f"measures.{name}", own, *networks, examples(run, data))
                    found = numbers(f"measures.{name}", name, said)
                    if twice := row.keys() & found.keys():
                        line = f"gives {min(twice)}, which another measure gives; rename one"
                        raise RunError(f"measures.{name}: {line}")
                    row |= found
                write_table(file, pd.DataFrame([row]))
            rows.append(read_table(file).assign(direction=direction))
            bar.update()
    write_table(stages.run_table(run, "own_measures"), pd.concat(rows, ignore_index=True))
