rule kernel:
    input:
        path_of(paths.data),
        path_of(paths.training, "model", "seed"),
    output:
        "results/{study}/{model}/seed{seed}/kernel_norm-{fingerprint}.parquet",
    log:
        "results/{study}/{model}/seed{seed}/logs/kernel_norm-{fingerprint}.log",
    benchmark:
        "results/{study}/{model}/seed{seed}/benchmarks/kernel_norm-{fingerprint}.tsv"
    conda:
        "../../envs/conda.yaml"
    threads: threads_of
    resources:
        mem_mb=8000,
        runtime=480,
        gpu=gpus_of,
    message:
        "kernels of {wildcards.model}, seed {wildcards.seed} ({wildcards.study})"
    shell:
        "python -m twophase kernel workflow/config/{wildcards.study}.yaml"
        " --model {wildcards.model} --seed {wildcards.seed}"
        " --expect {output} > {log} 2>&1"


# The projection is written just before the distances: one job, two tables.
rule cone:
    input:
        path_of(paths.kernel_norm, "model", "seed"),
    output:
        distance="results/{study}/{model}/seed{seed}/kernel_distance-{fingerprint}.parquet",
        projection="results/{study}/{model}/seed{seed}/kernel_projection-{fingerprint}.parquet",
    log:
        "results/{study}/{model}/seed{seed}/logs/kernel_distance-{fingerprint}.log",
    benchmark:
        "results/{study}/{model}/seed{seed}/benchmarks/kernel_distance-{fingerprint}.tsv"
    conda:
        "../../envs/conda.yaml"
    threads: threads_of
    resources:
        mem_mb=8000,
        runtime=120,
        gpu=gpus_of,
    message:
        "kernel distances of {wildcards.model}, seed {wildcards.seed} ({wildcards.study})"
    shell:
        "python -m twophase cone workflow/config/{wildcards.study}.yaml"
        " --model {wildcards.model} --seed {wildcards.seed}"
        " --expect {output.distance} > {log} 2>&1"
