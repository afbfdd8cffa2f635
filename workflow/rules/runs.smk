# The stages of runs: one rule for each row of the table in src/twophase/stages/__init__.py.
def job_name(stage):
    """How a job's files are called."""
    return f"{stage}-{{fingerprint}}" + ("-{part}of{parts}" if stages.STAGES[stage].shared else "")


def outputs_of(stage):
    """What shows that a job has ended: its tables, or a mark where several share the parts."""
    row = stages.STAGES[stage]
    if row.shared:
        return temp(touch(f"{RUN}/{stage}-{{fingerprint}}/{{part}}of{{parts}}.done"))
    return [f"{RUN}/{table}-{{fingerprint}}.parquet" for table in row.tables]


def arguments_of(stage):
    """The arguments of a stage's command, but for the study file."""
    row = stages.STAGES[stage]

    def arguments(wildcards):
        found = ["--model", wildcards.model, "--seed", wildcards.seed]
        if row.shared:
            found += ["--part", wildcards.part, "--parts", wildcards.parts]
        if row.keeps_time:
            found += ["--keep-minutes", str(config.get("keep_minutes", 5))]
        return [*found, "--fingerprint", wildcards.fingerprint]

    return arguments


for stage, row in stages.STAGES.items():
    if row.scope == "run":

        rule:
            name:
                stage
            input:
                inputs_of(stage),
            output:
                outputs_of(stage),
            log:
                f"{RUN}/logs/{job_name(stage)}.log",
            benchmark:
                f"{RUN}/benchmarks/{job_name(stage)}.tsv"
            conda:
                CONDA
            threads: threads_of
            resources:
                **resources_of(stage),
            params:
                stage=stage,
                arguments=arguments_of(stage),
            message:
                f"{stage} of {{wildcards.model}}, seed {{wildcards.seed}} ({{wildcards.study}})"
            shell:
                "python -m twophase {params.stage} workflow/config/{wildcards.study}.yaml"
                " {params.arguments:q} > {log} 2>&1"

    elif row.tables:

        rule:
            name:
                stage
            input:
                inputs_of_all_runs(stage),
            output:
                temp(touch(f"results/{{study}}/{stage}-{{fingerprint}}.done")),
            log:
                f"results/{{study}}/logs/{stage}-{{fingerprint}}.log",
            benchmark:
                f"results/{{study}}/benchmarks/{stage}-{{fingerprint}}.tsv"
            conda:
                CONDA
            threads: threads_of
            resources:
                **resources_of(stage),
            params:
                stage=stage,
            message:
                f"{stage} of {{wildcards.study}}"
            shell:
                "python -m twophase {params.stage} workflow/config/{wildcards.study}.yaml"
                " --fingerprint {wildcards.fingerprint} > {log} 2>&1"
