# `make figures` draws every figure, `make test` runs every test, `make bench` times the
# tangent kernel beside torch.func's (some ten minutes); each sets up .venv first.
PYTHON ?= python3
ACTIVATE := . .venv/bin/activate

.PHONY: figures test bench lock

figures: .venv/ready
	$(ACTIVATE) && snakemake --cores all figures/all

test: .venv/ready
	$(ACTIVATE) && ruff check . && ruff format --check .
	$(ACTIVATE) && snakefmt --check Snakefile workflow/rules
	$(ACTIVATE) && snakemake --lint
	$(ACTIVATE) && pytest

bench: .venv/ready
	$(ACTIVATE) && python benchmarks/kernels.py

# The package itself is linked, not copied: an edit under src/ is what runs.
.venv/ready: envs/requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "make: $(PYTHON) is Python %d.%d; 3.11 or newer is needed: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	$(PYTHON) -m venv --clear .venv
	$(ACTIVATE) && pip install --quiet --require-hashes --requirement envs/requirements.txt
	$(ACTIVATE) && pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# After a change of the ranges in pyproject.toml. Needs uv.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--no-annotate --no-emit-index-url --group dev --output-file envs/requirements.txt pyproject.toml
