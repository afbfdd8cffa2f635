# `make figures` draws every figure, `make test` runs every test, `make bench` times the
# tangent kernel beside torch.func's (some ten minutes), `make readme` writes README's verdicts,
# `make docs` builds the documentation site in site/, `make archive` packs code, tables and write-up;
# each sets up .venv first.
# `make TORCH_INDEX=<address> ...` sets it up with PyTorch's build from there.
PYTHON ?= python3
ACTIVATE := . .venv/bin/activate

.PHONY: figures test bench readme docs archive lock

figures: .venv/ready
	$(ACTIVATE) && snakemake --cores all figures/all

test: .venv/ready
	$(ACTIVATE) && ruff check . && ruff format --check .
	$(ACTIVATE) && snakefmt --check Snakefile workflow/rules
	$(ACTIVATE) && snakemake --lint
	$(ACTIVATE) && pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder

bench: .venv/ready
	$(ACTIVATE) && python benchmarks/kernels.py

readme: .venv/ready
	$(ACTIVATE) && python -m twophase.writeup readme

docs: .venv/ready
	$(ACTIVATE) && snakemake --cores 1 paper/replication.html
	$(ACTIVATE) && mkdocs build --strict

archive: .venv/ready
	$(ACTIVATE) && snakemake --cores 1 paper/replication.pdf
	$(ACTIVATE) && python -m twophase.writeup archive

# The package itself is linked, not copied: an edit under src/ is what runs.
.venv/ready: envs/requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "make: $(PYTHON) is Python %d.%d; 3.11 or newer is needed: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	@echo "Setting up .venv, once: some minutes, $(if $(TORCH_INDEX),1.7 GB with PyTorch from $(TORCH_INDEX),6 GB on Linux (1.7 GB without CUDA: see TORCH_INDEX in README.md))"
	$(PYTHON) -m venv --clear .venv
	grep -v '^#' envs/requirements.txt $(if $(TORCH_INDEX),| awk $(WITHOUT_TORCH)) > .venv/requirements.txt
	$(if $(TORCH_INDEX),$(ACTIVATE) && pip install --no-deps --index-url '$(TORCH_INDEX)' $(TORCH))
	$(ACTIVATE) && pip install --no-deps --require-hashes --requirement .venv/requirements.txt
	$(ACTIVATE) && pip install --no-deps --no-build-isolation --editable .
	touch $@

# With TORCH_INDEX, the address of an index of PyTorch's CPU build, PyTorch comes from there, in the
# lock's version but without its hashes, and CUDA's libraries do not come at all.
TORCH_INDEX ?=
TORCH = $(shell sed -n 's/^\(torch\(vision\)*==[^ ]*\) .*/\1/p' envs/requirements.txt)
WITHOUT_TORCH = '/^[^ ]/ {keep = !/^(torch|torchvision|triton|cuda-|nvidia-)/} keep'

# After a change of the ranges in pyproject.toml. Needs uv.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--no-annotate --no-emit-index-url --group dev --output-file envs/requirements.txt pyproject.toml
