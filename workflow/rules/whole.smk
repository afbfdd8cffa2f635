# All stages of a run, one after another, where config.yaml lists the study in whole_runs.
rule run:
    input:
        whole_inputs,
    output:
        temp(touch(f"{RUN}/run-{{fingerprint}}.done")),
    log:
        f"{RUN}/logs/run-{{fingerprint}}.log",
    benchmark:
        f"{RUN}/benchmarks/run-{{fingerprint}}.tsv"
    conda:
        CONDA
    threads: threads_of
    resources:
        **resources_of(largest_stage()),
    params:
        keep_minutes=str(config.get("keep_minutes", 5)),
    message:
        "{wildcards.model}, seed {wildcards.seed} ({wildcards.study})"
    shell:
        "python -m twophase run workflow/config/{wildcards.study}.yaml"
        " --model {wildcards.model} --seed {wildcards.seed}"
        " --keep-minutes {params.keep_minutes:q} --fingerprint {wildcards.fingerprint}"
        " > {log} 2>&1"
