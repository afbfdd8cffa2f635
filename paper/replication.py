# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Two phases of learning? A replication
#
# **What was claimed.** Zhou, Yang, Sugiyama and Yan
# ([arXiv 2505.13900](https://arxiv.org/abs/2505.13900)) say that training has two phases with one
# transition between them. *Chaos*: a tiny perturbation of the parameters early in training changes
# where training ends; later it does not. *Cone*: early in training the network's tangent kernel
# turns fast; after the same transition it stays within a narrow cone. The tangent kernel says how
# far a step on one example moves the outputs for another; *linearised* training keeps it as it is
# at some iteration. They show this for VGG-16 and ResNet-20 on CIFAR-10, with one run each and no
# error bars. That such measures change together early in training is an idea of Fort and others
# ([arXiv 2010.15110](https://arxiv.org/abs/2010.15110)).

# %%
from IPython.display import HTML, Markdown, display

from twophase.estimators.seeds import LEVEL, expected_false
from twophase.writeup import claims, parts, sources, standing, text, verdicts
from twophase.writeup.text import name_of, number

rules = claims.load()
studies = sources.published()
tested = sources.sources()
found = standing.judged(rules, tested)
general = [v for v in found if v.claim.kind != "figure"]
registered = [v for v in found if text.is_test(v)]
exploratory = [v for v in general if not text.is_test(v)]
decided = [LEVEL for v in exploratory for o in v.outcomes if o.holds is not None and o.estimate]

once = [source for source in tested if not source.same_as]
open_ = [source for source in once if not source.withheld]
seeds = [source.seeds for source in open_]
lengths = [source.iterations for source in open_]
judged = {v.source for v in general if v.word != verdicts.CANNOT_SAY and v.source in once}
again = [text.name_of(source) for source in tested if source.same_as]
twice = (
    f" The runs of {', '.join(again)} are those of another study, and count once." if again else ""
)
display(
    Markdown(
        f"**What was tested.** Each claim, on {text.counted(len(open_), 'network')} with "
        f"{text.span(seeds)} seeds and {text.span(lengths)} iterations each. Their studies are "
        "listed under *How it was "
        f"tested*.{twice}\n\n"
        "**What came out.** Each claim has a verdict for each network, computed by a rule from "
        "tables that are published with this page. Seeds and iterations are enough to judge some "
        f"claim on {text.counted(len(judged), 'network')}.\n\n"
        "**Registered verdicts** are of rules that were fixed, together with their study, before "
        "the first of its seeds began; records that the runs left show the order. "
        + ("Here they are:" if registered else "There are none yet.")
    )
)
display(HTML(text.matrix(registered, tested)))
display(Markdown(text.fallen(general)))

# %%
display(
    Markdown(
        "**Exploratory verdicts** are all others. Here, how many networks got which; in the table "
        "below, which network got what:\n\n" + text.summary(exploratory) + "\n\n"
        f"{text.counted(len(decided), 'interval')} lie within their range or outside of it. One in "
        f"twenty misses its number: of these up to {number(expected_false(decided))} will."
    )
)
display(HTML(text.matrix(exploratory, tested)))

# %% [markdown]
# *Replicated*: the interval of every number that the claim is about lies where the claim says it
# should. *Not replicated*: each lies outside. *Partly*: some do and some do not. *Cannot say yet*:
# an interval holds values of both kinds, or seeds, iterations or measurements are too few. The
# rules are in `paper/claims.yaml`.

# %%
seen = ", ".join(sorted({v.source.study for v in found if v.seen})) or "none"
days = sorted({claim.fixed or rules.fixed for claim in rules.claims})
fixed = " and ".join(text.day(day) for day in days)
strict = sum(v.word != verdicts.CANNOT_SAY for v in registered)
so_far = (
    f"so far, {text.counted(strict, 'verdict')} of these say more than *cannot say yet*"
    if strict
    else "so far there are none, and all that is said here is exploratory"
)
display(
    Markdown(
        f"The rules were fixed on {fixed}. They were **written or changed after looking** at "
        f"results of: {seen}; verdicts on these are marked *. Only registered verdicts are tests "
        f"in the strict sense; {so_far}. A registered study is looked at when as many seeds are "
        "there as was registered, and before that nothing is computed of it. The settings of small "
        "studies were chosen so that they answer clearly: they show that an effect can be, not how "
        f"common it is. Intervals are {text.percent(LEVEL)}, over seeds, or what was registered; "
        f"at least {number(rules.fewest_seeds)} seeds are asked for."
    )
)

# %% [markdown]
# ## How it was tested
#
# A *base run* is ordinary training. A *fork* is a copy of it whose parameters get a tiny
# perturbation at iteration t0; base run and fork then see the same batches, and are compared at
# iteration t1. The *barrier* is the most by which the test loss on the straight path between the
# two exceeds the line between its ends: above the threshold, they ended in different valleys of the
# loss. *Disagreement* is the share of test images that they put into different classes.
# *Dissimilarity* is one minus the cosine of their parameters. A *control* is a fork without
# perturbation; it must equal its base run bit for bit, and every table here says whether it does.
#
# The *kernel distance* S(t, u) is one minus the cosine of the tangent kernels at t and u: blind to
# scale. A change point is looked for in S between neighbouring kernels; *one step* competes with
# *two*, and with a *power law* and an *exponential decay*, which slow down without a point in time:
# the decay counts as none or one. The *cone's radius* is the largest angle between a kernel after
# the transition (after the first quarter of training, if there is none) and the mean of these
# kernels, over that of a random walk with the same steps; whether it is *narrow*, no rule says.
# Kernels are followed up to the first drop of the learning rate: a drop slows them down by itself,
# and would be taken for the transition.

# %%
lines = []
for study, _ in studies:
    device = "GPU" if study.compute.device == "cuda" else "CPU"
    each = text.counted(len(study.seeds), "seed")
    lines.append(f"- *{study.name}*: {' '.join(study.title.split())}; {each}, on a {device}")
display(Markdown("The studies:\n\n" + "\n".join(lines)))
display(HTML(parts.settings(tested)))

# %%
rows = [[name_of(source), parts.controls(source)] for source in tested]
display(HTML(text.table(["Study, model", "Controls equal to their base run bit for bit"], rows)))

# %% [markdown]
# ## What differs from the paper, and why
#
# - **Seeds and intervals.** The paper has one run of each kind, and a single run can show chaos or
#   none.
# - **Scale.** The studies here train for fewer iterations than the paper, some of them smaller
#   networks on smaller images. Most are what a processor without a GPU can do; the list at the top
#   says which ran on a GPU, and that they have fewer seeds. A number of the paper's is compared
#   only with the network, data set and horizon that it is of.
# - **The perturbation.** The paper gives it by a count of entries, which is not a norm. Here it is
#   Gaussian with the standard deviation in the table above, and the norm that is left after
#   rounding is kept with every fork.
# - **Initialisation, batch size, batch norm at interpolated weights** are not in the paper. They
#   follow its authors' earlier code.
# - **Numbers of the paper** were read off its figures by a third party. They count as met within
#   the tolerance of `paper/claims.yaml`.
# - **The paper's second figure** is not known to us; ours is the protocol.

# %% [markdown]
# ## Verdicts, with their numbers

# %%
for source in tested:
    own = [v for v in general if v.source is source]
    display(Markdown(f"### {name_of(source)}"))
    display(HTML(text.details(own, rules)))

# %% [markdown]
# ## The numbers of the paper's figures
#
# Each is compared with the same network on the same data, once trained for as long as the number
# needs. Those that no published study can speak to are listed too.

# %%
numbers = [v for v in found if v.claim.kind == "figure"]
about = [v for v in numbers if v.outcomes]
if about:
    display(HTML(text.details(about, rules)))
silent = [claim for claim in rules.claims if claim.id not in {v.claim.id for v in general + about}]
rows = [
    [claim.source, claim.claim, text.reasons([v for v in numbers if v.claim is claim])]
    for claim in silent
]
display(HTML(text.table(["Figure", "Number", "Cannot say yet, because"], rows)))

# %% [markdown]
# ## When things change
#
# The times at which measures change, over seeds. Two transitions are *one* if the last column holds
# one and excludes what is far from it: there, times are compared seed by seed, as ratios. ∞ means
# an end that lies outside of what was measured.

# %%
display(HTML(parts.transition_figure(tested)))
for source in tested:
    display(Markdown(f"### Transitions of {name_of(source)}"))
    display(HTML(parts.transitions(source)))

# %% [markdown]
# ## Figures
#
# The paper's, made again from each study's tables, and ours beside them.


# %%
def show_panels(study: sources.Study, file: sources.Path) -> None:
    panels = parts.panels(study, file)
    if not panels:
        display(Markdown(f"### {study.name}\n\n*No figure: {sources.why_none(study, file)}.*"))
    for name, drawn, caption in panels:
        display(Markdown(f"### {study.name}: {name}"))
        display(HTML(drawn))
        display(HTML(f'<p class="caption">{caption}</p>'))


for study, file in studies:
    if not study.sweep:
        show_panels(study, file)

# %% [markdown]
# ## What the paper does not have
#
# - **The processor is a perturbation.** Sums round differently on another kind of machine, and
#   training amplifies that: single runs are those of the machine that made them.
# - **Late forks part too.** Stable means here that no barrier parts them and that they agree more,
#   not that they stay together: see the first row of each table.
# - **They part by flips.** The distance stays flat until a ReLU gate or a pooling winner differs,
#   then rises in one step. Studies that follow it step by step show it below: a
#   *flip* is a gate or winner that differs, *apart* a distance of a tenth, *ulp* one unit in the
#   last place of one parameter, *noise* other batches and dropout.
# - **Batch norm's counters.** In the paper's own network the dissimilarity of the whole state,
#   buffers included, has the size that the paper reports and vanishes as it does; that of the
#   parameters does neither.
# - **Architecture and initialisation** decide whether there is chaos to be seen at all. What
#   earlier runs showed of initialisation is in `docs/findings.md`.

# %%
for source in tested:
    display(Markdown(f"### Beside the claims: {name_of(source)}"))
    display(HTML(parts.beyond(source)))
    display(HTML(parts.growth(source)))

# %% [markdown]
# ## What depends on the settings
#
# Some studies train one network with several values of an option. Each column below is one value,
# with intervals over its seeds. The claims are not judged on these: they ask how what is measured
# above depends on what was set.

# %%
for sweep in sources.sweeps():
    display(Markdown(f"### {sweep.study}, {sweep.name}: {sweep.keys}"))
    display(HTML(parts.dependence(sweep)))
for study, file in studies:
    if study.sweep:
        show_panels(study, file)

# %% [markdown]
# ## Limits
#
# - Seeds are few. Intervals are Student's over seeds, or of a model of shares on a grid; both are
#   tried on made-up tables whose truth is known. They take means over seeds to be about normal.
# - An interval of no width means that all seeds agree, not that no seed ever would not.
# - A grid of t0, t1 or t cannot show what happens between its points. Intervals are wider by that.
# - A learning rate that falls little by little, as a cosine, slows the kernel down throughout.
# - A step is the simplest picture of a transition. A fall that takes its time is placed where one
#   step fits it best.
# - The chaos transition is of barriers at the last t1; a barrier may still grow after it. Where the
#   learning rate has dropped before it, forks are compared after the drop.
# - Claims are in our words. Whoever reads the paper otherwise can change a rule and see what
#   follows.

# %% [markdown]
# ## Make it again
#
# This page, from the published tables, in a minute and without a network; then the same as PDF:
#
#     snakemake --cores all paper/replication.html
#     snakemake --cores all paper/replication.pdf
#
# A study that is published with `twophase publish workflow/config/<study>.yaml` gets its
# rows and panels here. A claim is an entry of `paper/claims.yaml`.

# %%
for study, file in studies:
    display(Markdown(f"### Where {study.name} comes from"))
    display(HTML(parts.origin(study, file)))
