rule base:
    input:
        path_of(paths.data),
    output:
        "results/{study}/{model}/seed{seed}/training-{fingerprint}.parquet",
    log:
        "results/{study}/{model}/seed{seed}/logs/training-{fingerprint}.log",
    benchmark:
        "results/{study}/{model}/seed{seed}/benchmarks/training-{fingerprint}.tsv"
    conda:
        "../../envs/conda.yaml"
    threads: threads_of
    resources:
        mem_mb=4000,
        runtime=480,
        gpu=gpus_of,
    message:
        "base run of {wildcards.model}, seed {wildcards.seed} ({wildcards.study})"
    shell:
        "python -m twophase base workflow/config/{wildcards.study}.yaml"
        " --model {wildcards.model} --seed {wildcards.seed}"
        " --expect {output} > {log} 2>&1"
