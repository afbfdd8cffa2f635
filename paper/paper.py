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

# %%
from IPython.display import HTML, Markdown, display

from twophase.writeup import beside, overview, page, text

# The page of one paper, whose folder has claims.yaml and about.md: docs/extending.md, "A paper".
rules, studies, tested, _, found = page.subject()
display(Markdown((page.asked_for().parent / overview.ABOUT).read_text(encoding="utf-8")))

# %% [markdown]
# ## Verdicts
#
# *Replicated*: the interval of every number that the claim is about lies where the claim says it
# should. *Not replicated*: each lies outside. *Partly*: some do and some do not. *Cannot say yet*:
# an interval holds values of both kinds, or seeds, iterations or measurements are too few. None of
# these rules was registered. Verdicts on studies that had been looked at before are marked *.

# %%
single = [v for v in found if not v.source.conditions]
display(HTML(text.matrix(single, tested)))
display(Markdown(text.summary(found)))

# %% [markdown]
# ## Numbers
#
# Each claim with its source, what was measured, where it must lie, and the verdict.

# %%
for source in dict.fromkeys(v.source for v in found):
    own = [v for v in overview.counting(found) if v.source is source]
    if own:
        display(HTML(f"<h3>{text.name_of(source)}</h3>" + text.details(own, rules)))

# %% [markdown]
# ## Figures
#
# Of the studies that are asked first.

# %%
for study, file in studies:
    if study.name in rules.quoted_studies:
        display(
            HTML(f"<h3>{study.name}</h3>" + beside.figure(beside.drawn(study, file), titled=True))
        )
