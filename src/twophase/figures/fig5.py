"""Figure 5: the cone effect."""

from matplotlib.figure import Figure

from twophase.figures import style
from twophase.store.paths import Result
from twophase.study.model import Study

# Above the data: distances may be anywhere.
LEGEND = {
    "ncols": 3,
    "fontsize": "x-small",
    "loc": "lower left",
    "bbox_to_anchor": (0, 1),
    "borderaxespad": 0,
    "handlelength": 1,
    "columnspacing": 1,
    "alignment": "left",
    "title_fontproperties": {"weight": "bold", "size": "medium"},
}


def draw(study: Study, tables: dict[str, Result]) -> Figure:
    """One row per model: distances from references, between neighbours, and the kernels in 3-D."""
    distances = style.points(tables, "kernel_distance")
    distances = style.Points(*(frame.assign(dt=frame["u"] - frame["t"]) for frame in distances))
    models = style.models(study, "kernel")
    figure, axes = style.grid(len(models), 3, 2.7, width_ratios=(1, 1, 1.25))
    for row, (name, model) in zip(axes, models.items(), strict=True):
        points = distances.where(model=name)
        colors = style.shades(model.kernel.references)
        for tau in model.kernel.references:
            style.line(row[0], points.where(u=tau), "t", color=colors[tau], label=str(tau))
        row[0].set(xlabel="iteration $t$", ylabel=r"$S(\theta_t, \theta_\tau)$")
        # The name on a line of its own: a legend takes its width from the panels.
        row[0].legend(title=f"{name}\nfrom reference $\\tau$", **LEGEND)

        colors = style.shades(model.kernel.intervals)
        for dt in model.kernel.intervals:
            style.line(row[1], points.where(dt=dt), "t", color=colors[dt], label=str(dt))
        row[1].set(xlabel="iteration $t$", ylabel=r"$S(\theta_t, \theta_{t+dt})$")
        row[1].legend(title="over an interval $dt$", **LEGEND)
        for ax in row[:2]:
            ax.set_ylim(0, None)
            style.kernel_times(ax, model)

        row[2].remove()
        box = figure.add_subplot(row[2].get_subplotspec(), projection="3d")
        cone = style.projection(study, tables, name)
        for _, kernel in cone.iterrows():
            ray = [[0, kernel[axis]] for axis in "xyz"]
            box.plot(*ray, color="0.6", linewidth=0.4)
        box.plot(cone["x"], cone["y"], cone["z"], color="0.4", linewidth=0.8)
        dots = box.scatter(
            cone["x"],
            cone["y"],
            cone["z"],
            c=cone["t"],
            cmap=style.SEQUENTIAL,
            s=9,
            depthshade=False,
        )
        share = sum(cone[f"{axis}_share"][0] for axis in "xyz")
        box.set_title(f"$H/|H|$ in 3-D: {share:.0%} of squared length", fontsize="small")
        for axis in (box.xaxis, box.yaxis, box.zaxis):
            axis.set_pane_color("white")
            axis._axinfo["grid"] |= {"color": "0.92", "linewidth": 0.5}
        box.plot(0, 0, 0, "k+", markersize=6)
        box.tick_params(labelsize="xx-small", pad=-3)
        box.locator_params(nbins=4)  # else labels of two axes meet at a corner
        figure.colorbar(dots, ax=box, label="iteration $t$", shrink=0.7, pad=0.12)
    seed, runs = study.seeds[0], style.runs_note(study)
    style.note(
        figure,
        study,
        "S: one minus the cosine of two kernels H.\n"
        f"{runs.capitalize()}. 3-D: seed {seed}; rays start at the origin.",
    )
    return figure
