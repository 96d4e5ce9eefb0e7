# What a person types. Everything that is made lies below target/ (or CARGO_TARGET_DIR) and infra/node_modules; nothing else is touched.
# Each step prints one line; VERBOSE=1 shows everything.
SHELL := /bin/bash
TARGET := $(or $(CARGO_TARGET_DIR),target)
STEP := @tests/local/step.sh
FUNCTIONS := on-push on-scan on-deploy on-sweep
# Stories wait more than they compute.
STORIES_AT_ONCE ?= 6
# What the stories and the demo run can be made to fail on purpose; what ships cannot (make dist).
FAULTS := --features faults
ARCH ?= $(if $(filter aarch64 arm64,$(shell uname -m)),arm64,x86_64)
export CARGO_TERM_COLOR := never
# Lambda's machine is slow, a developer's is not: never let a test wait for an answer from outside.
export AWS_EC2_METADATA_DISABLED := true
export CDK_DISABLE_CLI_TELEMETRY := 1

.PHONY: help doctor demo test fmt clippy check-tree test-rules test-signatures model-deep fuzz mutants test-unit build check-binaries infra test-infra lint-templates synth test-stories load crashes audit dist bench package try-package clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 24

doctor: ## what is missing on this machine, and how to get it
	@echo "This machine:"; tests/local/doctor.sh

.PHONY: ready
ready:
	@tests/local/doctor.sh --quiet || { echo; echo "Nothing was started: see above (make doctor)."; exit 1; }

demo: ready ## the product at work on a local AWS: one deployment let through, one blocked
	@tests/local/demo.sh

test: ready ## everything that CI runs
	@echo "Testing (logs in $(TARGET)/logs):"
	@$(MAKE) --no-print-directory fmt clippy check-tree test-rules build check-binaries test-unit test-infra lint-templates test-stories
	@echo "All is well."

fmt: ## formatting
	$(STEP) fmt cargo fmt --check

clippy: ## lints; a warning is an error
	$(STEP) clippy cargo clippy --all-targets $(FAULTS) --locked -- -D warnings

check-tree: ## one TLS, one HTTP, and only licences that go with ours
	$(STEP) check-tree tests/local/check_tree.py

test-rules: ## the pure part, without the SDK: events, judging, messages, laws, golden files
	$(STEP) test-rules cargo test --no-default-features --locked

test-signatures: ## signatures alone, each case with what was expected and what came; SIGNATURE_VECTORS=FOLDER for public ones
	cargo test --no-default-features --locked --test signatures

model-deep: ## the parking protocol and the outboxes with more going wrong at once; takes a while
	$(STEP) model-deep env MODEL=deep cargo test --release --no-default-features --locked --test model

fuzz: ## bytes made up for every parser (docs/fuzzing.md), needs nightly and cargo-fuzz; SECONDS=120 each, TARGET=policy for one alone
	@tests/fuzz/run.sh $(or $(SECONDS),120) $(if $(filter command,$(firstword $(origin TARGET))),$(TARGET))

mutants: ## FILES='judge.rs policy.rs' of src/domain broken in every way: which breaks no test sees (docs/mutants.md), needs cargo-mutants
	@tests/local/mutants.sh $(TARGET) $(FILES)

build: ## the functions, the CLI and the test programs, as the stories and the demo use them
	$(STEP) build cargo build --bins --tests --examples $(FAULTS) --locked

check-binaries: build ## no glibc newer than Lambda's, and the right machine
	$(STEP) check-binaries tests/local/check_binaries.py $(ARCH) $(FUNCTIONS:%=$(TARGET)/debug/%)

test-unit: ## the adapters and what else needs the SDK but no AWS
	$(STEP) test-unit cargo test --lib --bins $(FAULTS) --locked

infra: infra/node_modules/.package-lock.json

infra/node_modules/.package-lock.json: infra/package-lock.json
	$(STEP) npm-ci npm --prefix infra ci --no-audit --no-fund --loglevel=error
	@touch $@

test-infra: infra ## the CDK package: types, template tests in pairs, golden templates
	$(STEP) lint-infra npm --prefix infra run lint
	$(STEP) test-infra npm --prefix infra test

lint-templates: infra ## cfn-lint on every synthesized template
	$(STEP) lint-templates tests/local/lint_templates.sh

synth: infra $(TARGET)/synth/ecr-scan-verifier.template.json ## the stacks that the stories deploy

$(TARGET)/synth/ecr-scan-verifier.template.json: $(shell find infra/src infra/example -name '*.ts') tests/local/synth.sh
	$(STEP) synth tests/local/synth.sh

test-stories: synth ## whole ways through the system on a local AWS
	$(STEP) test-stories env RUST_TEST_THREADS=$(STORIES_AT_ONCE) cargo test --test stories $(FAULTS) --locked

load: synth ## 500 deployments that wait, 1,000 pushes and scans, 20 stacks; and a function's memory over 100,000 events. Takes a while
	@cargo build --bins $(FAULTS) --locked
	cargo test --test stories $(FAULTS) --locked -- --ignored --nocapture --test-threads=1 load::

crashes: synth ## of the stories those alone in which every function is killed before and after each effect, each AWS operation fails in five ways
	@cargo build --bins $(FAULTS) --locked
	cargo test --test stories $(FAULTS) --locked -- --nocapture --test-threads=3 crashes:: apis::

audit: ## crates and npm packages: licences, sources, known flaws
	$(STEP) audit tests/local/audit.sh

dist: ready ## the functions as they ship, into infra/binaries/ARCH/: make dist ARCH=arm64, ARCH=x86_64
	$(STEP) dist-$(ARCH) tests/local/dist.sh $(ARCH) $(TARGET) $(FUNCTIONS)
	@echo "  infra/binaries/$(ARCH): $(FUNCTIONS)"

bench: ready ## the functions that `make dist` has built at Lambda's sizes, goal beside result: make bench ONLY=on-deploy (on-scan, release, zips)
	@tests/bench/bench.py --arch $(ARCH) --ready
	$(STEP) floor cargo build --profile dist --no-default-features --features bench --bin bench-floor --locked
	@tests/bench/bench.py --arch $(ARCH) --floor $(TARGET)/dist/bench-floor $(ONLY:%=--only %) $(ROUNDS:%=--rounds %) $(THAN:%=--than %)

package: infra ## the npm package, with every architecture that `make dist` has built, into $(TARGET)/package/
	$(STEP) package tests/local/package.sh $(TARGET)

try-package: ready ## the packed package in an empty app: npm install, synth, and a deployment on the local AWS
	$(STEP) try-package tests/local/try_package.sh $(TARGET)

clean: ## forgets everything that was made
	cargo clean
	rm -rf infra/node_modules infra/build infra/lib infra/cdk.out
