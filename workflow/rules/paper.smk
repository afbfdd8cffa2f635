# Figures from published measurements: seconds, and no results/ needed.
rule published_figure:
    input:
        published,
        code=["src/twophase/figures/{figure}.py", "src/twophase/figures/style.py"],
    output:
        "paper/figures/{study}/{figure}.pdf",
        "paper/figures/{study}/{figure}.png",
    log:
        "paper/figures/{study}/logs/{figure}.log",
    benchmark:
        "paper/figures/{study}/benchmarks/{figure}.tsv"
    wildcard_constraints:
        figure="|".join(FIGURES),
    conda:
        "../../envs/conda.yaml"
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
        expand("paper/figures/{{study}}/{figure}.{kind}", figure=FIGURES, kind=["pdf", "png"]),
    output:
        touch("paper/figures/{study}/all"),
    localrule: True
