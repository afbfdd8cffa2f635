# The images, in one file.
rule data:
    input:
        waits(f"{OF_STUDY}/data-{{fingerprint}}.safetensors"),
    output:
        f"{OF_STUDY}/data-{{fingerprint}}.safetensors",
    log:
        f"{OF_STUDY}/logs/data-{{fingerprint}}.log",
    benchmark:
        f"{OF_STUDY}/benchmarks/data-{{fingerprint}}.tsv"
    conda:
        CONDA
    threads: 1
    resources:
        mem_mb=memory,
        runtime=minutes,
    params:
        stage=stage_of,
    message:
        "data set of {wildcards.study}"
    shell:
        "python -m twophase {params.stage} workflow/config/{wildcards.study}.yaml"
        " --fingerprint {wildcards.fingerprint} > {log} 2>&1"


# What would fail in hours fails here: a trial of all networks, before any is trained.
use rule data as check with:
    input:
        waits(f"{OF_STUDY}/check-{{fingerprint}}.parquet"),
    output:
        f"{OF_STUDY}/check-{{fingerprint}}.parquet",
    log:
        f"{OF_STUDY}/logs/check-{{fingerprint}}.log",
    benchmark:
        f"{OF_STUDY}/benchmarks/check-{{fingerprint}}.tsv"
    threads: threads_of
    resources:
        **on_any_device(),
    message:
        "check of the networks of {wildcards.study}"
