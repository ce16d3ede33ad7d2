# One environment, made by the first command that needs it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Tests run on one processor kind and one Keras backend, wherever they run.
export CUDA_VISIBLE_DEVICES :=
export KERAS_BACKEND ?= tensorflow
export TF_CPP_MIN_LOG_LEVEL ?= 3
export TF_ENABLE_ONEDNN_OPTS ?= 1

.PHONY: demo test coverage check check-lowest check-newest format lint types install readme docs bench \
	fuzz clean

demo: $(READY)
	$(BIN)/xlstm demo

install: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	touch $(READY)

test: $(READY)
	$(BIN)/pytest --numprocesses 2 --dist worksteal

# The same tests, each line traced: two thirds more time of a processor, 46 minutes instead of 28.
# `make check` runs them untraced; run this one before a release, and after new code without tests.
coverage: $(READY)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --numprocesses 2 --dist worksteal
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

format: $(READY)
	$(BIN)/ruff format --check .

lint: $(READY)
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy xlstm converters

check: format lint types test

# The oldest versions that pyproject.toml allows, and the newest that can be had. uv finds both;
# pip installs PyTorch, of which only the version of constraints.txt has been tried. The tests are
# those in which frameworks do the work: ports of every layer compared, Flax modules read, old and
# new files read, tables printed by rich. `make check` runs the rest, which are about our own code.
VERSION_TESTS := tests/reference/test_conformance.py tests/converters/flax tests/files/test_files.py \
	tests/files/test_readers.py tests/files/test_hdf5.py tests/files/test_savedmodel.py \
	tests/files/test_weights_alone.py tests/converters/keras/live
WITH_TORCH := tests/converters/torch/test_torch_layers.py tests/cli/test_cli.py
# the flags of tests/conftest.py that both the XLA of TensorFlow 2.18 and that of JAX 0.12 know: each
# ends the process for a flag that it does not know
OLD_AND_NEW_XLA := --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true
# JAX 0.12 needs Python 3.12 or later
NEWEST_PYTHON ?= python3.13

check-lowest:
	$(PYTHON) -m venv --clear .venv-lowest
	.venv-lowest/bin/pip install --quiet uv
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest/bin/python \
		--resolution lowest-direct --editable '.[keras,flax]'
	.venv-lowest/bin/pip install --quiet --constraint constraints.txt torch pytest pytest-xdist ruff
	mkdir -p build && rm -f build/lowest.xml
	-XLA_FLAGS='$(OLD_AND_NEW_XLA)' .venv-lowest/bin/pytest --numprocesses 2 --dist worksteal \
		--junitxml build/lowest.xml $(VERSION_TESTS) $(WITH_TORCH)
	.venv-lowest/bin/python benchmarks/versions.py --record lowest --junit build/lowest.xml

# without PyTorch: it is not in `.[keras,flax]`, and tests that need it are not chosen
check-newest:
	$(NEWEST_PYTHON) -m venv --clear .venv-newest
	.venv-newest/bin/pip install --quiet uv
	.venv-newest/bin/uv pip install --quiet --python .venv-newest/bin/python \
		--resolution highest --editable '.[keras,flax]' pytest pytest-xdist ruff
	mkdir -p build && rm -f build/newest.xml
	-XLA_FLAGS='$(OLD_AND_NEW_XLA)' .venv-newest/bin/pytest --numprocesses 2 --dist worksteal \
		--junitxml build/newest.xml -k 'not torch' $(VERSION_TESTS)
	.venv-newest/bin/python benchmarks/versions.py --record newest --junit build/newest.xml

readme: $(READY)
	$(BIN)/python tests/docs/readme.py

# the pages of docs/ as HTML, in build/docs; any warning fails
docs: $(READY)
	$(BIN)/sphinx-build --fail-on-warning --keep-going --nitpicky docs build/docs

# ratios measured side by side, one process for the calls of a contest; nothing else should run
bench: $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python benchmarks/bench.py --json docs/speed/calls.json --svg docs/speed/calls.svg
	$(BIN)/python benchmarks/commands.py --json docs/speed/commands.json
	$(BIN)/python benchmarks/growth.py --json docs/speed/growth.json

# 20 minutes on two cores: mutated files in children with limits; offenders are kept in build/fuzz
fuzz: $(READY)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python tests/fuzz/harness.py --seconds 1200 --jobs 2 --keep build/fuzz

clean:
	rm -rf $(VENV) .venv-lowest .venv-newest build dist *.egg-info .coverage*
