# Everything here sets itself up: a virtual environment in .venv, nothing outside this folder.
PYTHON ?= python3
CC ?= cc
VENV := .venv
BUILD ?= build
BIN := $(VENV)/bin
# src/gpu/source.c is made from the shader, and not tracked.
SOURCES := $(sort $(wildcard src/*.[ch] src/*/*.[ch] include/*.h) src/gpu/source.c) CMakeLists.txt pyproject.toml
C_TESTS := check_cache check_dtype check_edges check_errors check_features check_kernels check_overlap check_plans check_sequences check_stack check_torch
# Fewer cases under the sanitizers and the emulator, which are 5 to 15 times slower.
SANITIZED_CASES ?= 300
# Cases that the differential test draws where each may compile a shader.
DRAWS ?= 100
GPU_LIBRARY := $(CURDIR)/$(BUILD)/libcausal_conv1d_gpu.so
# The compiler of the wheels, and what runs the programs of other machines (Debian: qemu-user
# libc6-arm64-cross wine).  AARCH64_CC may be another, such as aarch64-linux-gnu-gcc.
export ZIG_GLOBAL_CACHE_DIR ?= $(CURDIR)/$(BUILD)/zig
ZIG := $(BIN)/python -m ziglang cc -target
AARCH64_CC ?= $(ZIG) aarch64-linux-gnu.2.17
AARCH64_RUN ?= qemu-aarch64 -L /usr/aarch64-linux-gnu
WINDOWS_RUN ?= WINEDEBUG=-all wine
# Under the sanitizers kernels are compiled for these widths, and ASan and UBSan take -O0, where gcc
# warns of pragmas: at -O1 avx2.c alone takes 4 minutes.  Other widths take the kernels for any.
FEW_WIDTHS := "-DCC1D_WIDTHS(X)=X(4) X(7)"
LIBS := -lm -ldl
CFLAGS_TEST := -std=c11 -Wall -Wextra -Werror -ffp-contract=off -pthread -Iinclude

.PHONY: help bench bench-kernels test test-suite test-fallback test-builds test-gpu check aarch64 windows asan leaks tsan emulated gpu-test gpu-check gpu-bench \
  macos apple-evidence wheels wheel-test release reproduce docs figures \
  transformers lint clean

# First, and so what `make` alone does: nothing is built or measured unasked.
help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "%-14s %s\n", $$1, $$2 }' Makefile

bench: $(BUILD)/installed ## measure, then train a small byte-level language model
	$(BIN)/python bench.py --quick
	$(BIN)/python examples/byte_lm.py --short --compare

bench-kernels: $(BUILD)/check/bench_kernels ## the CPU kernels against memcpy and a triad; needs no Python
	$<

test: test-suite test-builds test-gpu test-fallback ## everything, C, Python and the shader; -j2 runs two at once

# Tests of some minutes of compiling, for another core.
BUILDS := tests/test_macos.py tests/test_package.py
# Tests of files, tools and pages, which speak of the C library, and of what Inductor makes of a step,
# which takes minutes: they are left to the suite on the CPU.
TOOLS := $(patsubst %,tests/test_%.py,command_line docs embed house release update_compiled)
test-suite: $(BUILD)/installed ## of the tests, the Python suite
	$(BIN)/python test.py $(BUILDS:%=--ignore=%) --ignore=tests/gpu

test-fallback: $(BUILD)/installed ## the suite on plain PyTorch, as where the C library cannot be loaded
	$(BIN)/python test.py --fallback --draws $(DRAWS) $(filter-out $(BUILDS) $(TOOLS),$(wildcard tests/test_*.py))

test-builds: $(BUILD)/installed ## of the tests, those that compile for minutes
	$(BIN)/python -m pytest $(BUILDS)

test-gpu: $(BUILD)/installed ## of the tests, the shader without a GPU
	$(BIN)/python -m pytest tests/gpu

check: $(C_TESTS:%=$(BUILD)/check/%) ## the C tests alone; needs no Python
	set -e; for test in $^; do echo "$$test"; $$test; done

aarch64: $(C_TESTS:%=$(BUILD)/aarch64/%) ## the C tests with NEON, emulated
	set -e; for test in $^; do echo "$$test"; $(AARCH64_RUN) $$test --cases $(SANITIZED_CASES); done

windows: $(patsubst %,$(BUILD)/windows/%,$(filter-out check_cache,$(C_TESTS))) ## the C tests but one that forks, under Wine
	set -e; for test in $^; do echo "$$test"; $(WINDOWS_RUN) $$test --cases $(SANITIZED_CASES); done

asan: $(C_TESTS:%=$(BUILD)/asan/%) ## the C tests under AddressSanitizer, LeakSanitizer and UBSan
	set -e; for test in $^; do echo "$$test"; $$test --cases $(SANITIZED_CASES); done

leaks: $(BUILD)/installed $(patsubst src/%.c,$(BUILD)/asan/%.o,$(filter %.c,$(SOURCES))) ## calls from Python under AddressSanitizer and LeakSanitizer
	$(CC) -fsanitize=address,undefined -shared $(filter %.o,$^) -lm -ldl -o $(BUILD)/libasan.so
	$(BIN)/python tests/leaks.py $(BUILD)/libasan.so

tsan: $(BUILD)/tsan/check_kernels ## the threads under ThreadSanitizer
	$< --cases $(SANITIZED_CASES)

# Those that hold results to bounds, once more where subnormals are flushed to zero.
FLUSHED := $(patsubst %,tests/test_%.py,subnormals forward backward sequences update)
emulated: $(BUILD)/installed ## the suite on an emulated Apple GPU
	$(MAKE) -f tests/gpu/emulator/Makefile PYTHON=$(BIN)/python
	CAUSAL_CONV1D_LIBRARY=$(CURDIR)/build/gpu/libcausal_conv1d_emulated.so MALLOC_PERTURB_=1 \
	  $(BIN)/python test.py --emulated --draws $(DRAWS) $(filter-out $(BUILDS) $(TOOLS),$(wildcard tests/test_*.py))
	CAUSAL_CONV1D_LIBRARY=$(CURDIR)/build/gpu/libcausal_conv1d_emulated.so CAUSAL_CONV1D_EMULATOR_FLUSH=1 \
	  $(BIN)/python test.py --emulated --draws $(DRAWS) $(FLUSHED)

# Without what needs an installed package, or more packages than PyTorch, pytest and hypothesis.
gpu-test: $(GPU_LIBRARY) ## the suite on an NVIDIA GPU, with the packages that PYTHON has
	CAUSAL_CONV1D_LIBRARY=$< $(PYTHON) test.py --device cuda --draws $(DRAWS) \
	  $(filter-out tests/test_command_line.py tests/test_docs.py,$(wildcard tests/test_*.py))

$(GPU_LIBRARY): $(SOURCES)
	mkdir -p $(@D)
	$(CC) -std=c11 -O2 -fPIC -shared -ffp-contract=off -fexceptions -fvisibility=hidden \
	  -DCAUSAL_CONV1D_BUILD $(filter %.c,$^) -lm -ldl -lpthread -o $@

# initcheck must see PyTorch's kernels write too; the others look at ours alone.
gpu-check: $(GPU_LIBRARY) ## the self test under the four tools of compute-sanitizer
	set -e; for tool in memcheck racecheck synccheck initcheck; do \
	  [ $$tool = initcheck ] && only= || only="--kernel-name kns=entry"; \
	  PYTHONPATH=. CAUSAL_CONV1D_LIBRARY=$< PYTORCH_NO_CUDA_MEMORY_CACHING=1 \
	  compute-sanitizer --tool $$tool $$only --error-exitcode 9 $(PYTHON) tests/gpu/sanitized.py; done

gpu-bench: $(GPU_LIBRARY) ## speed on an NVIDIA GPU, beside causal-conv1d and fla-core if PYTHON has them
	CAUSAL_CONV1D_LIBRARY=$< $(PYTHON) bench.py --device cuda
	PYTHONPATH=. CAUSAL_CONV1D_LIBRARY=$< $(PYTHON) tools/bench_cuda.py

# In folders of their own: the two want different releases, and neither is a dependency.
transformers: $(BUILD)/installed $(BUILD)/transformers-5.23.0 $(BUILD)/transformers-5.22.2 ## the models
	PYTHONPATH=$(BUILD)/transformers-5.23.0 $(BIN)/python -m pytest -q tests/clients/test_transformers.py
	PYTHONPATH=$(BUILD)/transformers-5.22.2 $(BIN)/python -m pytest -q tests/clients/test_kernels.py

$(BUILD)/transformers-%: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --target $@ transformers==$* kernels==0.17.2

macos: $(VENV)/installed ## the macOS wheel, cross-built, against PyTorch's own (TORCH=2.13: that one alone)
	PATH="$(CURDIR)/$(BIN):$$PATH" python tools/wheels.py --out $(BUILD)/macos macosx_13_0_arm64
	$(BIN)/python tools/check_macos.py $(BUILD)/macos/*.whl $(if $(TORCH),--torch $(TORCH))

apple-evidence: $(BUILD)/installed ## what Apple's compiler made of PyTorch's kernels, beside our shader (llvm-14)
	$(MAKE) -f tests/gpu/emulator/Makefile PYTHON=$(BIN)/python
	CAUSAL_CONV1D_LIBRARY=$(CURDIR)/build/gpu/libcausal_conv1d_emulated.so \
	  $(BIN)/python tools/apple_evidence.py --page docs/metal.md

wheels: $(VENV)/installed ## every platform's wheel, cross-built and checked
	PATH="$(CURDIR)/$(BIN):$$PATH" python tools/wheels.py
	$(BIN)/python tools/check_wheels.py $(BUILD)/wheels/*.whl

wheel-test: wheels ## the suite with the installed wheel and the newest PyTorch, or TORCH=2.13.0
	rm -rf $(BUILD)/clean && $(PYTHON) -m venv $(BUILD)/clean
	sed '/^nvidia-/d; s/^torch==.*/torch$(TORCH:%===%)/' requirements-dev.txt > $(BUILD)/clean/requirements.txt
	$(BUILD)/clean/bin/python -m pip install --quiet --disable-pip-version-check \
	  -r $(BUILD)/clean/requirements.txt $(BUILD)/wheels/*-manylinux*_$$(uname -m).whl
	cd tests && PYTHONSAFEPATH=1 $(CURDIR)/$(BUILD)/clean/bin/python ../test.py --ignore=gpu --draws $(DRAWS)

release: $(VENV)/installed ## dist/: sdist, wheels, SHA256SUMS, notes.md
	PATH="$(CURDIR)/$(BIN):$$PATH" python tools/release.py

reproduce: release ## what is committed, built from another folder: the same bytes as in dist/
	rm -rf $(BUILD)/again && git clone --quiet . $(BUILD)/again
	PATH="$(CURDIR)/$(BIN):$$PATH" python $(BUILD)/again/tools/release.py --unchecked
	cd $(BUILD)/again/dist && sha256sum --check --strict $(CURDIR)/dist/SHA256SUMS

docs: .venv-docs/installed ## build/site, links checked
	.venv-docs/bin/python tools/docs.py

figures: $(VENV)/installed ## docs/figures/speedup.svg, from docs/results
	$(BIN)/python tools/plots.py docs/results/*.json

.venv-docs/installed: requirements-docs.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

src/gpu/source.c: src/gpu/embed.awk src/gpu/source.h $(wildcard src/gpu/*.h src/gpu/*.metal src/gpu/*/*.metal) ## the shader as C strings, for `cc src/*.c src/*/*.c`
	awk -f $< src/gpu/source.h > $@

lint: $(VENV)/lint ## ruff, clang-format, mypy and pyright; as hooks by pre-commit install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $$(git ls-files '*.c' '*.h' '*.cpp')
	$(BIN)/mypy
	$(BIN)/pyright

clean: ## remove all that was built, .venv too
	rm -rf $(BUILD) $(VENV) .venv-docs dist

$(VENV)/installed: requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

$(VENV)/lint: requirements-lint.txt | $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-lint.txt
	touch $@

# Editable: Python changes need no new installation, C changes build again.
$(BUILD)/installed: $(VENV)/installed $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation \
	  --no-deps --editable .
	mkdir -p $(BUILD) && touch $@

$(BUILD)/check/% $(BUILD)/aarch64/% $(BUILD)/windows/%: FLAGS := -O2
$(BUILD)/aarch64/%: CC := $(AARCH64_CC)
$(BUILD)/windows/%: CC := $(ZIG) x86_64-windows-gnu
$(BUILD)/windows/%: LIBS :=
$(BUILD)/asan/%: FLAGS := $(FEW_WIDTHS) -Wno-error -O0 -g -fPIC -fexceptions -fsanitize=address,undefined -fno-sanitize-recover=all
$(BUILD)/tsan/%: FLAGS := $(FEW_WIDTHS) -O1 -g -fsanitize=thread

define object_rules
$(BUILD)/$(1)/%.o: src/%.c $$(SOURCES) $(if $(filter aarch64 windows,$(1)),| $(VENV)/installed)
	mkdir -p $$(@D) && $$(CC) $$(CFLAGS_TEST) $$(FLAGS) -c $$< -o $$@
$(BUILD)/$(1)/%: tests/c/%.c $$(patsubst src/%.c,$(BUILD)/$(1)/%.o,$$(filter %.c,$$(SOURCES)))
	$$(CC) $$(CFLAGS_TEST) $$(FLAGS) $$^ -o $$@ $$(LIBS)
endef
$(foreach kind,check aarch64 windows asan tsan,$(eval $(call object_rules,$(kind))))
.SECONDARY:
.DELETE_ON_ERROR:
