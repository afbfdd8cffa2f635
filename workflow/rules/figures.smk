# What is shown: summaries over all runs, the figures drawn from them, and their list. For a short
# study, one job makes all summaries, and the one that lists the figures draws them all.
rule summary:
    input:
        waits(f"{OF_STUDY}/{{table}}_summary-{{fingerprint}}.parquet"),
    output:
        f"{OF_STUDY}/{{table}}_summary-{{fingerprint}}.parquet",
    log:
        f"{OF_STUDY}/logs/{{table}}_summary-{{fingerprint}}.log",
    benchmark:
        f"{OF_STUDY}/benchmarks/{{table}}_summary-{{fingerprint}}.tsv"
    wildcard_constraints:
        table="|".join(stages.SUMMARISED),
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    message:
        "summary of the table {wildcards.table} ({wildcards.study})"
    shell:
        "python -m twophase summary workflow/config/{wildcards.study}.yaml"
        " --table {wildcards.table} --fingerprint {wildcards.fingerprint} > {log} 2>&1"


rule summaries:
    input:
        waits(f"{OF_STUDY}/summaries-{{fingerprint}}.done"),
    output:
        temp(touch(f"{OF_STUDY}/summaries-{{fingerprint}}.done")),
    log:
        f"{OF_STUDY}/logs/summaries-{{fingerprint}}.log",
    benchmark:
        f"{OF_STUDY}/benchmarks/summaries-{{fingerprint}}.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        does=does,
    message:
        "{params.does} ({wildcards.study})"
    shell:
        "python -m twophase summaries workflow/config/{wildcards.study}.yaml"
        " --fingerprint {wildcards.fingerprint} > {log} 2>&1"


# One rule for each figure, so that each has its caption in the report.
for figure in figures.FIGURES:

    rule:
        name:
            figure
        input:
            waits(f"figures/{{study}}/{figures.files(figure)[0]}"),
        output:
            [f"figures/{{study}}/{name}" for name in figures.files(figure)[:-1]],
            report(
                f"figures/{{study}}/{figures.files(figure)[-1]}",
                caption="../report/caption.rst",
                # The report sorts by these names.
                category="1 findings" if figure == "findings" else "2 figures",
                subcategory="{study}",
                labels={"study": "{study}", "figure": figure},
            ),
        log:
            f"results/{{study}}/logs/{figure}.log",
        benchmark:
            f"results/{{study}}/benchmarks/{figure}.tsv"
        conda:
            CONDA
        threads: 1
        resources:
            mem_mb=2000,
            runtime=30,
        params:
            figure=figure,
            caption=lambda wildcards, figure=figure: figures.caption(
                Path("figures") / wildcards.study, figure
            ),
        message:
            "{params.figure} of {wildcards.study}"
        shell:
            "python -m twophase figure workflow/config/{wildcards.study}.yaml"
            " --figure {params.figure} --folder figures/{wildcards.study} > {log} 2>&1"


# A figure of a study's own: of its measures, or of a function beside it.
rule own_figure:
    input:
        waits("figures/{study}/{figure}.pdf"),
    output:
        "figures/{study}/{figure}.pdf",
        "figures/{study}/{figure}.txt",
        report(
            "figures/{study}/{figure}.png",
            caption="../report/caption.rst",
            category="2 figures",
            subcategory="{study}",
            labels={"study": "{study}", "figure": "{figure}"},
        ),
    log:
        "results/{study}/logs/{figure}.log",
    benchmark:
        "results/{study}/benchmarks/{figure}.tsv"
    wildcard_constraints:
        figure=OWN_FIGURE,
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        figure=lambda wildcards: wildcards.figure,
        caption=lambda wildcards: figures.caption(
            Path("figures") / wildcards.study, wildcards.figure
        ),
    message:
        "{params.figure} of {wildcards.study}"
    shell:
        "python -m twophase figure workflow/config/{wildcards.study}.yaml"
        " --figure {params.figure} --folder figures/{wildcards.study} > {log} 2>&1"


# A figure in another format: figures/<study>/fig3.svg.
rule figure_as:
    input:
        formatted_inputs,
    output:
        "figures/{study}/{figure}.{format}",
    log:
        "results/{study}/logs/{figure}-{format}.log",
    benchmark:
        "results/{study}/benchmarks/{figure}-{format}.tsv"
    wildcard_constraints:
        figure=r"(?!findings\b)[A-Za-z]\w*",
        format="svg|eps|pgf",
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    message:
        "{wildcards.figure} of {wildcards.study} as {wildcards.format}"
    shell:
        "python -m twophase figure workflow/config/{wildcards.study}.yaml"
        " --figure {wildcards.figure} --format {wildcards.format}"
        " --folder figures/{wildcards.study} > {log} 2>&1"


rule study_figures:
    input:
        waits("figures/{study}/manifest.json"),
    output:
        manifest="figures/{study}/manifest.json",
        done=touch("figures/{study}/all"),
    log:
        "results/{study}/logs/manifest.log",
    benchmark:
        "results/{study}/benchmarks/manifest.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        does=does,
    message:
        "{params.does} ({wildcards.study})"
    shell:
        "python -m twophase figures workflow/config/{wildcards.study}.yaml"
        " --folder figures/{wildcards.study} > {log} 2>&1"
