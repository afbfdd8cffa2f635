# The way in. `snakemake --cores 8 figures/all` builds the studies that
# workflow/config/config.yaml lists; figures/<study>/all builds one, figures/<study>/fig3.pdf
# one figure. A study is a file workflow/config/<study>.yaml; the path names it.
import gc
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.20")

if not Path(workflow.basedir).samefile(Path.cwd()):
    sys.exit(f"Snakemake must run in the folder of its Snakefile, {workflow.basedir}")


configfile: "workflow/config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/published.smk"
include: "workflow/rules/terminal.smk"


# Searches for garbage among all that Snakemake imports took a quarter of a dry run.
gc.freeze()
gc.set_threshold(50_000)


# First, so that it is what `snakemake` alone builds.
rule all_studies:
    input:
        lambda wildcards: [ancient(f"figures/{study}/all") for study in studies()],
    output:
        touch("figures/all"),
    localrule: True


# In the order of the run.
include: "workflow/rules/data.smk"
include: "workflow/rules/runs.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/paper.smk"


check_targets()
say_little()
say_why()
