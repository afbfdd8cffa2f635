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
# # Several papers, one pipeline
#
# What neighbouring papers claim, in our words, and what the same published tables say of each.
# A rule decides from each network's tables; none of these rules but those of arXiv 2505.13900 was
# registered. Where a network stands behind a verdict with *, the rule was written after looking at
# its study. Studies are small: they show that an effect can be, not how common it is.

# %%
from IPython.display import HTML, Markdown, display

from twophase.writeup import overview

papers = overview.papers()
questions = overview.questions(papers)

# %% [markdown]
# ## Where papers agree
#
# A question that several papers answer, and the verdict on each one's claim, for the networks on
# which two of them can be judged. *Agree* says whether all verdicts in a row are the same. Whether
# one perturbation of 1e-7 and another order of the data give other answers, *across papers* says
# below.

# %%
for question in questions:
    display(HTML(f"<h3>{question.words}</h3>" + overview.shared(question, papers)))

# %% [markdown]
# ## All claims
#
# A row for each claim of each paper, the networks by verdict, and how many cannot say yet.

# %%
for paper in papers:
    display(Markdown("#" + paper.about.replace("\n# ", "\n## ").replace("# ", "## ", 1)))
    display(HTML(overview.table(paper)))
