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
# ## Abstract
#
# Zhou, Yang, Sugiyama and Yan ([arXiv 2505.13900](https://arxiv.org/abs/2505.13900)) say that
# training has two phases with one transition between them. *Chaos*: a tiny perturbation of the
# parameters early in training changes where training ends; later it does not. *Cone*: early in
# training the network's tangent kernel turns fast; after the same transition it stays within a
# narrow cone. The tangent kernel says how far a step on one example moves the outputs for another.
# They show this for VGG-16 and ResNet-20 on CIFAR-10, with one run each and no error bars. That
# such measures change together early in training is an idea of Fort and others
# ([arXiv 2010.15110](https://arxiv.org/abs/2010.15110)).

# %%
from IPython.display import HTML, Markdown, display

from twophase.estimators.seeds import LEVEL, expected_false
from twophase.writeup import appendix, beside, methods, page, sources, text, verdicts
from twophase.writeup.text import name_of, number

rules, studies, tested, sweeps, found = page.subject()
general = [v for v in found if v.claim.kind != "figure"]
registered = [v for v in found if text.is_test(v)]
exploratory = [v for v in general if not text.is_test(v)]
decided = [LEVEL for v in exploratory for o in v.outcomes if o.holds is not None and o.estimate]

once = [source for source in tested if not source.same_as]
open_ = [source for source in once if not source.withheld]
seeds = [source.seeds for source in open_]
lengths = [source.iterations for source in open_]
judged = {v.source for v in general if v.word != verdicts.CANNOT_SAY and v.source in once}
again = [name_of(source) for source in tested if source.same_as]
twice = (
    f" The runs of {', '.join(again)} are those of another study, and count once." if again else ""
)
display(
    Markdown(
        f"Each claim was tested on {text.counted(len(open_), 'network')} with {text.span(seeds)} "
        f"seeds and {text.span(lengths)} iterations each.{twice} It has a verdict for each "
        "network, computed by a rule from tables that are published with this page. Seeds and "
        f"iterations are enough to judge some claim on {text.counted(len(judged), 'network')}.\n\n"
        f"**The registered answer.**\n\n{text.answer(registered)}\n\n"
        f"**Exploratory.** How many networks got which verdict:\n\n{text.summary(exploratory)}"
    )
)

# %% [markdown]
# ## Is it one transition?
#
# The paper speaks of one transition that ends chaos and begins the cone. If that is so, both times
# of a run are alike, whatever the time for which it is looked at. Left: where barriers end. Right:
# both times of each seed; one transition lies in the grey band, within a factor of two.


# %%
above = set()


def show(study: sources.Study, file: sources.Path, name: str) -> None:
    drawn = beside.drawn(study, file, [name])
    above.update((study.name, name) for name, *_ in drawn)
    display(HTML(beside.figure(drawn)))


tests = {each.study for each in rules.registered}
leads = [
    (study, file) for name in rules.quoted_studies for study, file in studies if study.name == name
] or [(study, file) for study, file in studies if not study.sweep]
for study, file in studies:
    if study.name in tests:
        show(study, file, beside.ANSWER)
        if (study.name, beside.ANSWER) not in above:
            display(Markdown(f"*{study.name}, registered: {sources.why_none(study, file)}.*"))
for study, file in leads:
    if study.name not in tests:
        show(study, file, beside.ANSWER)

# %% [markdown]
# ## Verdicts
#
# *Replicated*: the interval of every number that the claim is about lies where the claim says it
# should. *Not replicated*: each lies outside. *Partly*: some do and some do not. *Cannot say yet*:
# an interval holds values of both kinds, or seeds, iterations or measurements are too few. The
# rules are in `paper/claims.yaml`. *Registered* are verdicts of rules that were fixed, together
# with their study, before the first of its seeds began; records that the runs left show the order.

# %%
judged_on = list(dict.fromkeys([*tested, *(v.source for v in found)]))
if registered:
    display(HTML(text.matrix(registered, judged_on)))
display(Markdown(text.fallen(general)))
display(HTML(text.matrix(exploratory, judged_on)))

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
        f"at least {number(rules.fewest_seeds)} seeds are asked for. "
        f"{text.counted(len(decided), 'interval')} lie within their range or outside of it. One in "
        f"twenty misses its number: of these up to {number(expected_false(decided))} will."
    )
)

# %% [markdown]
# ## The paper's figures and ours
#
# Each of the paper's figures, made again from our tables, with what the paper shows in it. Its
# numbers were read off by a third party; they are grey in ours where network and images are the
# same. The paper's second figure is not known to us.

# %%
for name, told in beside.PAPER.items():
    display(Markdown(f"### {text.figure_name(name)}\n\n{told}\n\n{beside.numbers(name, found)}"))
    for study, file in leads[: beside.SHOWN]:
        show(study, file, name)

# %% [markdown]
# ## Methods
#
# A *base run* is ordinary training. A *fork* is a copy of it whose parameters get a tiny
# perturbation at iteration t0; base run and fork then see the same batches, and are compared at
# iteration t1. The *barrier* is the most by which the test loss on the straight path between the
# two exceeds the line between its ends: above the threshold, they ended in different valleys of the
# loss. *Disagreement* is the share of test images that they put into different classes.
# *Dissimilarity* is one minus the cosine of their parameters. *Chaos ends* at the t0 from which
# half the forks end behind a barrier. A *control* is a fork without perturbation; it must equal its
# base run bit for bit, and every table here says whether it does.
#
# The *kernel distance* S(t, u) is one minus the cosine of the tangent kernels at t and u: blind to
# scale. The kernel *enters its later cone* when the logarithm of its angle to the later kernels'
# mean direction has gone half its way; that cone is *confined* if its spread is less than that of a
# random walk with the same steps. Kernels are followed up to the first drop of the learning rate: a
# drop slows them down by itself, and would be taken for the transition. *Linearised* training keeps
# the kernel as it is at some iteration.

# %%
display(HTML(methods.settings(tested)))

# %% [markdown]
# **What differs from the paper, and why.**
#
# - **Seeds and intervals.** The paper has one run of each kind, and a single run can show chaos or
#   none.
# - **Scale.** The studies here train for fewer iterations than the paper, some of them smaller
#   networks on smaller images. A number of the paper's is compared only with the network, data set
#   and horizon that it is of.
# - **The perturbation.** The paper gives it by a count of entries, which is not a norm. Here it is
#   Gaussian with the standard deviation in the table above, and the norm that is left after
#   rounding is kept with every fork.
# - **Initialisation, batch size, batch norm at interpolated weights** are not in the paper. They
#   follow its authors' earlier code.
#
# **What the paper does not have.**
#
# - **The processor is a perturbation.** Sums round differently on another kind of machine, and
#   training amplifies that: single runs are those of the machine that made them.
# - **Late forks part too.** Stable means here that no barrier parts them and that they agree more,
#   not that they stay together.
# - **They part by flips.** The distance stays flat until a ReLU gate or a pooling winner differs,
#   then rises in one step.
# - **Batch norm's counters.** In the paper's own network the dissimilarity of the whole state,
#   buffers included, has the size that the paper reports and vanishes as it does; that of the
#   parameters does neither.
# - **Architecture and initialisation** decide whether there is chaos to be seen at all.

# %% [markdown]
# ## Limits
#
# - Seeds are few. Intervals are Student's over seeds, or of a model of shares on a grid; both are
#   tried on made-up tables whose truth is known. They take means over seeds to be about normal.
# - An interval of no width means that all seeds agree, not that no seed ever would not.
# - A grid of t0, t1 or t cannot show what happens between its points. Intervals are wider by that.
# - A learning rate that falls little by little, as a cosine, slows the kernel down throughout.
# - The chaos transition is of barriers at the last t1; a barrier may still grow after it. Where the
#   learning rate has dropped before it, forks are compared before the drop.
# - Claims are in our words. Whoever reads the paper otherwise can change a rule and see what
#   follows.
#
# ## Make it again
#
# This page, from the published tables, in minutes and without a network; then the same as PDF:
#
#     snakemake --cores all paper/replication.html
#     snakemake --cores all paper/replication.pdf
#
# A study that is published with `twophase publish workflow/config/<study>.yaml` gets its
# rows and panels here. A claim is an entry of `paper/claims.yaml`. A page of your own studies and
# claims, without these:
#
#     python -m twophase.writeup own <study> --claims mine.yaml --to mine.html

# %% [markdown]
# ## Appendix
#
# Of each study where it comes from, all verdicts with their numbers, when each measure changes, and
# all figures. A *flip* is a gate or a winner that differs, *apart* a distance of a tenth, *ulp* one
# unit in the last place of one parameter, *noise* other batches and dropout. ∞ means an end that
# lies outside of what was measured. A change point is looked for in S between neighbouring kernels;
# *one step* competes with *two*, and with a *power law* and an *exponential decay*, which slow down
# without a point in time. Of studies that train one network with several values of an option each
# column is one value; claims are not judged on these.

# %%
for study, file in studies:
    display(HTML(appendix.study(study, file, found, tested, sweeps, rules, above)))
