"""Figure 6: train normally to a switch, then the linearised network to the end."""

import pandas as pd

from twophase.figures import names, style
from twophase.figures.lines import Lines, row
from twophase.figures.panels import Page
from twophase.study.model import Study

ENDS = (
    Lines("test_accuracy", "test accuracy (share)", "switch", hue="how", markers=True),
    Lines("test_loss", "test loss (nats)", "switch", hue="how", markers=True, log=True),
)


def draw(study: Study, tables: style.Tables) -> Page:
    """Test accuracy and loss at the end over the switch, with normal training for comparison."""
    ends = style.runs(tables, "linearized").assign(how="linearised from $t$ on")
    normal = style.runs(tables, "training").assign(how="normal training")
    models, shown = style.models(study, "linearized"), [ends]
    for name, model in models.items():
        last = style.where(normal, model=name, t=model.training.iterations)
        switches = model.linearized.switches
        shown += [last.assign(switch=each) for each in {switches[0], switches[-1]}]
    drawn, rows = pd.concat(shown, ignore_index=True), []
    for name, model in models.items():
        over = f"switch $t$ (iteration, of {model.training.iterations:,})"
        rows.append(row(study, name, drawn, [lines._replace(over=over) for lines in ENDS]))
    scores = "accuracy and " * ("test_accuracy" in set(ends["measure"]))
    return names.page(
        study,
        rows,
        "Training is normal up to the switch t. From there to the end the first-order Taylor "
        "model in the parameters at t is trained instead, the network in evaluation mode. Test "
        f"{scores}loss ({names.words(study).loss}) at the end.",
        marks={},
        forks=False,
    )
