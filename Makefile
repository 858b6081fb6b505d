# `make` alone says what there is. Everything runs without a container engine and without a cluster.

CARGO ?= cargo
SHELL := bash
.DEFAULT_GOAL := help

.PHONY: help
help: ## Says what there is
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Shows the whole story on a real control plane on this machine
	@echo "Building Cloison and the demo (the first time: about 4 minutes on two cores; then seconds)"
	@$(CARGO) build --quiet --locked --bin cloison
	@$(CARGO) build --quiet --locked -p cloison-testbed --bin demo
	@$(CARGO) run --quiet --locked -p cloison-testbed --bin demo

.PHONY: test
test: toolchain ## Runs every test, on real control planes (first time: about 18 minutes for the toolchain)
	@CARGO="$(CARGO)" e2e/suites

.PHONY: e2e
e2e: toolchain ## Runs at full length what make test runs shortened: judges of the network analysis, packets, rotations
	CLOISON_VERDICTS=1000000 $(CARGO) test --locked --test judges
	CLOISON_PACKETS_SEEDS=200 $(CARGO) test --locked --test packets -- --nocapture
	CLOISON_CASES=all $(CARGO) test --locked --test encryption_cases --test encryption_kms -- --nocapture
	CLOISON_RELOAD=minute $(CARGO) test --locked --test encryption_manage --test encryption_told

.PHONY: toolchain
toolchain: ## Builds etcd, Kubernetes, Helm and what else the tests start from their Go modules and Python packages, once
	@e2e/toolchain/build all >/dev/null

.PHONY: lint
lint: ## Checks the format, clippy, shell scripts, and dependencies when cargo-deny is there (make deny installs it)
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	@if command -v shellcheck >/dev/null; then shellcheck .ci/run e2e/suites e2e/toolchain/build; else echo "shellcheck is not installed: shell scripts not checked"; fi
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny --locked --offline check bans licenses sources; else echo "cargo-deny is not installed: dependencies not checked"; fi

.PHONY: deny
deny: ## Checks dependencies, published advisories included; installs cargo-deny first (minutes)
	@command -v cargo-deny >/dev/null || $(CARGO) install cargo-deny --locked
	$(CARGO) deny --locked check

.PHONY: gen
gen: ## Writes every generated file: crds/, the chart's copies and roles, docs/reference/
	CLOISON_GEN=1 $(CARGO) test --quiet --locked --test generated --test attacks committed

.PHONY: bench
bench: ## Measures; prints ratios of what ran side by side
	$(CARGO) bench --locked --bench '*'

.PHONY: mutants
mutants: ## Breaks the code on purpose, one way at a time, and names the test that notices (tests/mutants.toml)
	@$(CARGO) run --quiet --locked -p cloison-testbed --bin mutants -- "$(ONLY)"
