# Everything here sets itself up: a virtual environment in .venv, nothing outside this folder.
PYTHON ?= python3
CC ?= cc
VENV := .venv
BUILD ?= build
BIN := $(VENV)/bin
SOURCES := $(wildcard src/*.[ch] src/*/*.[ch] include/*.h) CMakeLists.txt pyproject.toml
C_TESTS := check_dtype check_errors check_kernels check_sequences
# Fewer cases under the sanitizers, which are 5 to 15 times slower.
SANITIZED_CASES ?= 300
CFLAGS_TEST := -std=c11 -Wall -Wextra -Werror -ffp-contract=off -pthread -Iinclude

.PHONY: bench test check asan leaks tsan lint clean

bench: $(BUILD)/installed ## measure, then train a small byte-level language model
	$(BIN)/python bench.py --quick
	$(BIN)/python examples/byte_lm.py --short --compare

test: $(BUILD)/installed ## the whole suite, C and Python
	$(BIN)/python test.py

check: $(C_TESTS:%=$(BUILD)/check/%) ## the C tests alone; needs no Python
	set -e; for test in $^; do echo "$$test"; $$test; done

asan: $(C_TESTS:%=$(BUILD)/asan/%) ## the C tests under AddressSanitizer, LeakSanitizer and UBSan
	set -e; for test in $^; do echo "$$test"; $$test --cases $(SANITIZED_CASES); done

leaks: $(BUILD)/installed ## calls from Python under AddressSanitizer and LeakSanitizer
	$(CC) -std=c11 -g -O1 -fsanitize=address -fexceptions -shared -fPIC \
	  $(filter %.c,$(SOURCES)) -lm -o $(BUILD)/libasan.so
	$(BIN)/python tests/leaks.py $(BUILD)/libasan.so

tsan: $(BUILD)/tsan/check_kernels ## the threads under ThreadSanitizer
	$< --cases $(SANITIZED_CASES)

lint: $(BUILD)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $$(git ls-files '*.c' '*.h' '*.cpp')

clean:
	rm -rf $(BUILD) $(VENV)

$(VENV)/installed: requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

# Editable: Python changes need no new installation, C changes build again.
$(BUILD)/installed: $(VENV)/installed $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation \
	  --no-deps --editable .
	mkdir -p $(BUILD) && touch $@

$(BUILD)/check/%: FLAGS := -O2
$(BUILD)/asan/%: FLAGS := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all
$(BUILD)/tsan/%: FLAGS := -O1 -g -fsanitize=thread

define object_rules
$(BUILD)/$(1)/%.o: src/%.c $$(SOURCES)
	mkdir -p $$(@D) && $$(CC) $$(CFLAGS_TEST) $$(FLAGS) -c $$< -o $$@
$(BUILD)/$(1)/%: tests/c/%.c $$(patsubst src/%.c,$(BUILD)/$(1)/%.o,$$(filter %.c,$$(SOURCES)))
	$$(CC) $$(CFLAGS_TEST) $$(FLAGS) $$^ -o $$@ -lm -ldl
endef
$(foreach kind,check asan tsan,$(eval $(call object_rules,$(kind))))
.SECONDARY:
