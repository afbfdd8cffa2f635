# What would fail in hours fails here: a trial of all networks of a study, before any is trained.
rule check:
    input:
        check_inputs,
    output:
        "results/{study}/check-{fingerprint}.parquet",
    log:
        "results/{study}/logs/check-{fingerprint}.log",
    benchmark:
        "results/{study}/benchmarks/check-{fingerprint}.tsv"
    conda:
        CONDA
    threads: threads_of
    resources:
        **resources_of("check"),
    message:
        "check of the networks of {wildcards.study}"
    shell:
        "python -m twophase check workflow/config/{wildcards.study}.yaml"
        " --fingerprint {wildcards.fingerprint} > {log} 2>&1"
