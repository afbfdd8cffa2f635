rule data:
    output:
        "results/{study}/data-{fingerprint}.safetensors",
    log:
        "results/{study}/logs/data-{fingerprint}.log",
    benchmark:
        "results/{study}/benchmarks/data-{fingerprint}.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=stages.STAGES["data"].memory_mb,
        runtime=stages.STAGES["data"].minutes,
    message:
        "data set of {wildcards.study}"
    shell:
        "python -m twophase data workflow/config/{wildcards.study}.yaml"
        " --fingerprint {wildcards.fingerprint} > {log} 2>&1"
