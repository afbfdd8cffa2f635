# Figures and the write-up from published measurements: seconds, and no results/ needed.
rule published_figure:
    input:
        ancient(published_inputs),
    output:
        "paper/figures/{study}/{figure}.pdf",
        "paper/figures/{study}/{figure}.txt",
        report(
            "paper/figures/{study}/{figure}.png",
            caption="../report/caption.rst",
            category="2 figures",
            subcategory="{study}",
            labels={"study": "{study}", "figure": "{figure}"},
        ),
    log:
        "paper/figures/{study}/logs/{figure}.log",
    benchmark:
        "paper/figures/{study}/benchmarks/{figure}.tsv"
    wildcard_constraints:
        figure=r"(?!(?:findings|all)\b)[A-Za-z]\w*",
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        caption=lambda wildcards: figures.caption(
            Path("paper/figures") / wildcards.study, wildcards.figure
        ),
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
