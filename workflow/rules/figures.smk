rule summary:
    input:
        lambda wildcards: paths.runs(load(wildcards.study), wildcards.table),
    output:
        "results/{study}/{table}_summary-{fingerprint}.parquet",
    log:
        "results/{study}/logs/{table}_summary-{fingerprint}.log",
    benchmark:
        "results/{study}/benchmarks/{table}_summary-{fingerprint}.tsv"
    wildcard_constraints:
        table="|".join(paths.RUN_TABLES),
    conda:
        "../../envs/conda.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    message:
        "summary of the table {wildcards.table} ({wildcards.study})"
    shell:
        "python -m twophase summary workflow/config/{wildcards.study}.yaml"
        " --table {wildcards.table} --expect {output} > {log} 2>&1"


# One rule for each figure, so that each has its caption in the report.
for figure in FIGURES:

    rule:
        name:
            figure
        input:
            lambda wildcards, figure=figure: tables(load(wildcards.study), figure).values(),
        output:
            pdf=f"figures/{{study}}/{figure}.pdf",
            png=report(
                f"figures/{{study}}/{figure}.png",
                caption=f"../report/{figure}.rst",
                category="{study}",
                labels={"figure": figure},
            ),
        log:
            f"results/{{study}}/logs/{figure}.log",
        benchmark:
            f"results/{{study}}/benchmarks/{figure}.tsv"
        conda:
            "../../envs/conda.yaml"
        threads: 1
        resources:
            mem_mb=2000,
            runtime=30,
        params:
            figure=figure,
            made_by=lambda wildcards, figure=figure: made_by(load(wildcards.study), figure),
        message:
            "{params.figure} of {wildcards.study}"
        shell:
            "python -m twophase figure workflow/config/{wildcards.study}.yaml"
            " --figure {params.figure} --folder figures/{wildcards.study} > {log} 2>&1"


rule findings:
    input:
        lambda wildcards: tables(load(wildcards.study), "findings").values(),
    output:
        report(
            "figures/{study}/findings.md",
            caption="../report/findings.rst",
            category="{study}",
            labels={"figure": "findings"},
        ),
    log:
        "results/{study}/logs/findings.log",
    benchmark:
        "results/{study}/benchmarks/findings.tsv"
    conda:
        "../../envs/conda.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        made_by=lambda wildcards: made_by(load(wildcards.study), "findings"),
    message:
        "findings of {wildcards.study}"
    shell:
        "python -m twophase findings workflow/config/{wildcards.study}.yaml"
        " --folder figures/{wildcards.study} > {log} 2>&1"


rule study_figures:
    input:
        expand("figures/{{study}}/{figure}.{kind}", figure=FIGURES, kind=["pdf", "png"]),
        "figures/{study}/findings.md",
        "workflow/config/{study}.yaml",
    output:
        manifest="figures/{study}/manifest.json",
        done=touch("figures/{study}/all"),
    log:
        "results/{study}/logs/manifest.log",
    benchmark:
        "results/{study}/benchmarks/manifest.tsv"
    conda:
        "../../envs/conda.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    message:
        "manifest of {wildcards.study}"
    shell:
        "python -m twophase manifest workflow/config/{wildcards.study}.yaml"
        " --folder figures/{wildcards.study} > {log} 2>&1"
