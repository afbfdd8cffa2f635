# The stages of a run, in the order of the work. All are like the first: its input is what the job
# waits for, by src/twophase/jobs.py: the tables of the stages that it reads; its output shows that
# it has ended.
#
#     data -> check -> base -> fork -> chaos -> sizes
#                              fork -> matching, own_measures
#                      base -> kernel -> cone, across_seeds
#                      base -> curvature, growth, trajectory, linearized, own_stages


SHARE = f"{OF_RUN}/fork-{{fingerprint}}/{{part}}of{{parts}}.done"


# Train one model from one seed, and keep the states that others start from.
rule base:
    input:
        waits(*tables_of("base")),
    output:
        tables_of("base"),
    log:
        f"{OF_RUN}/logs/base-{{fingerprint}}.log",
    benchmark:
        f"{OF_RUN}/benchmarks/base-{{fingerprint}}.tsv"
    conda:
        CONDA
    threads: threads_of
    resources:
        **on_any_device(),
    params:
        stage=stage_of,
        options=options,
        does=does,
    message:
        "{params.does} ({wildcards.study})"
    shell:
        "python -m twophase {params.stage} workflow/config/{wildcards.study}.yaml"
        " --model {wildcards.model} --seed {wildcards.seed} {params.options:q}"
        " --fingerprint {wildcards.fingerprint} > {log} 2>&1"


# Perturb it and train on: several jobs share a run's forks.
use rule base as fork with:
    input:
        waits(SHARE),
    output:
        temp(touch(SHARE)),
    log:
        f"{OF_RUN}/logs/fork-{{fingerprint}}-{{part}}of{{parts}}.log",
    benchmark:
        f"{OF_RUN}/benchmarks/fork-{{fingerprint}}-{{part}}of{{parts}}.tsv"


# Compare forks with their base run.
use rule base as chaos with:
    input:
        waits(*tables_of("chaos")),
    output:
        tables_of("chaos"),
    log:
        f"{OF_RUN}/logs/chaos-{{fingerprint}}.log",
    benchmark:
        f"{OF_RUN}/benchmarks/chaos-{{fingerprint}}.tsv"


# Forks of perturbations of other sizes, compared.
use rule base as sizes with:
    input:
        waits(*tables_of("sizes")),
    output:
        tables_of("sizes"),
    log:
        f"{OF_RUN}/logs/sizes-{{fingerprint}}.log",
    benchmark:
        f"{OF_RUN}/benchmarks/sizes-{{fingerprint}}.tsv"


# Tangent kernels along the base run.
use rule base as kernel with:
    input:
        waits(*tables_of("kernel")),
    output:
        tables_of("kernel"),
    log:
        f"{OF_RUN}/logs/kernel-{{fingerprint}}.log",
    benchmark:
        f"{OF_RUN}/benchmarks/kernel-{{fingerprint}}.tsv"


# Distances of these kernels, and the cone that they lie in.
use rule base as cone with:
    input:
        waits(*tables_of("cone")),
    output:
        tables_of("cone"),
    log:
        f"{OF_RUN}/logs/cone-{{fingerprint}}.log",
    benchmark:
        f"{OF_RUN}/benchmarks/cone-{{fingerprint}}.tsv"


# The same of kernels of different seeds: one job for all runs.
use rule data as across_seeds with:
    input:
        waits(f"{OF_STUDY}/across_seeds-{{fingerprint}}.done"),
    output:
        temp(touch(f"{OF_STUDY}/across_seeds-{{fingerprint}}.done")),
    log:
        f"{OF_STUDY}/logs/across_seeds-{{fingerprint}}.log",
    benchmark:
        f"{OF_STUDY}/benchmarks/across_seeds-{{fingerprint}}.tsv"
    threads: threads_of
    resources:
        **on_any_device(),
    message:
        "across_seeds of {wildcards.study}"


# Curvature of the loss along the base run.
use rule base as curvature with:
    input:
        waits(*tables_of("curvature")),
    output:
        tables_of("curvature"),
    log:
        f"{OF_RUN}/logs/curvature-{{fingerprint}}.log",
    benchmark:
        f"{OF_RUN}/benchmarks/curvature-{{fingerprint}}.tsv"


# How fork and base run part, step by step.
use rule base as growth with:
    input:
        waits(*tables_of("growth")),
    output:
        tables_of("growth"),
    log:
        f"{OF_RUN}/logs/growth-{{fingerprint}}.log",
    benchmark:
        f"{OF_RUN}/benchmarks/growth-{{fingerprint}}.tsv"


# The way of the base run through the space of parameters.
use rule base as trajectory with:
    input:
        waits(*tables_of("trajectory")),
    output:
        tables_of("trajectory"),
    log:
        f"{OF_RUN}/logs/trajectory-{{fingerprint}}.log",
    benchmark:
        f"{OF_RUN}/benchmarks/trajectory-{{fingerprint}}.tsv"


# Forks and base run modulo a permutation of their units.
use rule base as matching with:
    input:
        waits(*tables_of("matching")),
    output:
        tables_of("matching"),
    log:
        f"{OF_RUN}/logs/matching-{{fingerprint}}.log",
    benchmark:
        f"{OF_RUN}/benchmarks/matching-{{fingerprint}}.tsv"


# Linearised training from states of the base run on.
use rule base as linearized with:
    input:
        waits(*tables_of("linearized")),
    output:
        tables_of("linearized"),
    log:
        f"{OF_RUN}/logs/linearized-{{fingerprint}}.log",
    benchmark:
        f"{OF_RUN}/benchmarks/linearized-{{fingerprint}}.tsv"


# Forks and base run by measures of the user's own.
use rule base as own_measures with:
    input:
        waits(*tables_of("own_measures")),
    output:
        tables_of("own_measures"),
    log:
        f"{OF_RUN}/logs/own_measures-{{fingerprint}}.log",
    benchmark:
        f"{OF_RUN}/benchmarks/own_measures-{{fingerprint}}.tsv"


# Tables of the base run by functions of the user's own.
use rule base as own_stages with:
    input:
        waits(*tables_of("own_stages")),
    output:
        tables_of("own_stages"),
    log:
        f"{OF_RUN}/logs/own_stages-{{fingerprint}}.log",
    benchmark:
        f"{OF_RUN}/benchmarks/own_stages-{{fingerprint}}.tsv"


# All stages that a run has left, one after another, where config.yaml lists the study in whole_runs.
use rule base as run with:
    input:
        waits(f"{OF_RUN}/run-{{fingerprint}}.done"),
    output:
        temp(touch(f"{OF_RUN}/run-{{fingerprint}}.done")),
    log:
        f"{OF_RUN}/logs/run-{{fingerprint}}.log",
    benchmark:
        f"{OF_RUN}/benchmarks/run-{{fingerprint}}.tsv"
