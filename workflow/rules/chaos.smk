rule fork:
    input:
        path_of(paths.data),
        path_of(paths.training, "model", "seed"),
    output:
        "results/{study}/{model}/seed{seed}/perturbation{t0}-{fingerprint}.parquet",
    log:
        "results/{study}/{model}/seed{seed}/logs/perturbation{t0}-{fingerprint}.log",
    benchmark:
        "results/{study}/{model}/seed{seed}/benchmarks/perturbation{t0}-{fingerprint}.tsv"
    conda:
        "../../envs/conda.yaml"
    threads: threads_of
    resources:
        mem_mb=4000,
        runtime=480,
        gpu=gpus_of,
    message:
        "forks of {wildcards.model}, seed {wildcards.seed}, from {wildcards.t0} ({wildcards.study})"
    shell:
        "python -m twophase fork workflow/config/{wildcards.study}.yaml"
        " --model {wildcards.model} --seed {wildcards.seed} --t0 {wildcards.t0}"
        " --expect {output} > {log} 2>&1"


# The paths of the barriers are written just before the comparison: one job, two tables.
rule chaos:
    input:
        path_of(paths.data),
        path_of(paths.training, "model", "seed"),
        perturbations,
    output:
        chaos="results/{study}/{model}/seed{seed}/chaos-{fingerprint}.parquet",
        barrier_path="results/{study}/{model}/seed{seed}/barrier_path-{fingerprint}.parquet",
    log:
        "results/{study}/{model}/seed{seed}/logs/chaos-{fingerprint}.log",
    benchmark:
        "results/{study}/{model}/seed{seed}/benchmarks/chaos-{fingerprint}.tsv"
    conda:
        "../../envs/conda.yaml"
    threads: threads_of
    resources:
        mem_mb=8000,
        runtime=240,
        gpu=gpus_of,
    message:
        "comparison of {wildcards.model}, seed {wildcards.seed}, with its forks ({wildcards.study})"
    shell:
        "python -m twophase chaos workflow/config/{wildcards.study}.yaml"
        " --model {wildcards.model} --seed {wildcards.seed}"
        " --expect {output.chaos} > {log} 2>&1"
