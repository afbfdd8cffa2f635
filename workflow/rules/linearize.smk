rule linearized:
    input:
        path_of(paths.data),
        path_of(paths.training, "model", "seed"),
    output:
        "results/{study}/{model}/seed{seed}/linearized-{fingerprint}.parquet",
    log:
        "results/{study}/{model}/seed{seed}/logs/linearized-{fingerprint}.log",
    benchmark:
        "results/{study}/{model}/seed{seed}/benchmarks/linearized-{fingerprint}.tsv"
    conda:
        "../../envs/conda.yaml"
    threads: threads_of
    resources:
        mem_mb=4000,
        runtime=480,
        gpu=gpus_of,
    message:
        "linearised training of {wildcards.model}, seed {wildcards.seed} ({wildcards.study})"
    shell:
        "python -m twophase linearized workflow/config/{wildcards.study}.yaml"
        " --model {wildcards.model} --seed {wildcards.seed}"
        " --expect {output} > {log} 2>&1"
