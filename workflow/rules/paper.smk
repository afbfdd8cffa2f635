# Figures and the write-up from published measurements: seconds, and no results/ needed. They say
# themselves what made them.
from twophase.figures import drawing
from twophase.tables import published_study
from twophase.writeup import page, pdf


@plainly
def published(name):
    """The study published under this name, with its file."""
    patches.forget_dates(workflow)
    return published_study(name)


@plainly
def published_inputs(wildcards):
    """The published tables of a figure. A figure of other tables or code is drawn again."""
    study, file = published(wildcards.study)
    there = [name for name in drawing.redrawable(study, file) if name != "findings"]
    if wildcards.figure not in there:
        sys.exit(
            f"{file.parent}: {wildcards.figure} cannot be drawn; these can: {', '.join(there)}"
        )
    tables = drawing.published_tables(study, file, wildcards.figure)
    folder = Path("paper/figures") / study.name
    maker = drawing.redrawn_by(study, file, wildcards.figure)
    if not figures.current(folder, wildcards.figure, maker):
        patches.make_again(workflow, [folder / name for name in figures.files(wildcards.figure)])
    return [file, *(table.path for table in tables.values())]


def writeup_inputs(_):
    """What the write-up is made from. One of other tables or code is executed again."""
    patches.forget_dates(workflow)
    if not page.current():
        patches.make_again(workflow, [page.PAGE, page.NOTEBOOK])
    return page.read_from()


def pdf_inputs(_):
    """The page that the PDF is of. A PDF of another page is set again."""
    patches.forget_dates(workflow)
    if not pdf.current():
        patches.make_again(workflow, [pdf.PDF])
    return [page.PAGE, page.NOTEBOOK]


rule published_figure:
    input:
        ancient(published_inputs),
    output:
        "paper/figures/{study}/{figure}.pdf",
        "paper/figures/{study}/{figure}.png",
    log:
        "paper/figures/{study}/logs/{figure}.log",
    benchmark:
        "paper/figures/{study}/benchmarks/{figure}.tsv"
    wildcard_constraints:
        figure="|".join(name for name in figures.FIGURES if name != "findings"),
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    message:
        "{wildcards.figure} of {wildcards.study}, from its published measurements"
    shell:
        "python -m twophase redraw paper/measurements/{wildcards.study}/{wildcards.study}.yaml"
        " --figure {wildcards.figure} --folder paper/figures/{wildcards.study} > {log} 2>&1"


rule published_figures:
    input:
        lambda wildcards: ancient(
            [
                f"paper/figures/{wildcards.study}/{name}"
                for figure in drawing.redrawable(*published(wildcards.study))
                for name in figures.files(figure)
                if figure != "findings"
            ]
        ),
    output:
        touch("paper/figures/{study}/all"),
    localrule: True


# The write-up, executed from all published measurements; below, the same as PDF.
rule replication:
    input:
        ancient(writeup_inputs),
    output:
        report(page.PAGE, category="3 verdicts", labels={"figure": "claims and verdicts"}),
        page.NOTEBOOK,
    log:
        "paper/figures/logs/replication.log",
    benchmark:
        "paper/figures/benchmarks/replication.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    message:
        "write-up of all published studies"
    shell:
        "python -m twophase.writeup page > {log} 2>&1"


rule replication_pdf:
    input:
        pdf_inputs,
    output:
        pdf.PDF,
    log:
        "paper/figures/logs/replication_pdf.log",
    benchmark:
        "paper/figures/benchmarks/replication_pdf.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    message:
        "write-up as PDF"
    shell:
        "python -m twophase.writeup pdf > {log} 2>&1"
