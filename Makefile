# What people and CI run, by the same recipes. `make` alone lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

# Things fetched or built once a machine: Envoy, cargo-deny, CI's target folders.
export URSA_CACHE ?= $(HOME)/.cache/ursa

# In CI every run is a clean clone: the target folder lives in the cache, so that the next one is warm.
ifeq ($(CI),true)
export CARGO_TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(shell scripts/target-dir))
endif
TARGET := $(or $(CARGO_TARGET_DIR),target)

# Targets that run Envoy or Redis get both first. Set URSA_ENVOY to use an Envoy of your own.
ENVOY = $(or $(URSA_ENVOY),$$(scripts/install-envoy))
WITH_TOOLS = scripts/install-redis >/dev/null; export URSA_ENVOY="$(ENVOY)"; [ -x "$$URSA_ENVOY" ];

# Tests capture traffic, as root; the demo does not.
WITH_CAPTURE = scripts/install-capture-tools;

# The tests' Kubernetes cluster, made by kind. Set URSA_KUBECONFIG to use another one, which the tests may fill and change.
WITH_CLUSTER = KUBECONFIG="$$(scripts/test-cluster)"; export KUBECONFIG;

# The tests hold the Helm chart against what Helm makes of it.
WITH_HELM = URSA_HELM="$$(scripts/install-helm)"; export URSA_HELM;

# Its images of this build, in that cluster.
WITH_IMAGES = images="$$(scripts/test-images "$(TARGET)/debug")"; eval "$$images";

.PHONY: help
help: ## lists these targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

.PHONY: demo
demo: build ## starts the mesh of the demo and prints its addresses; Ctrl-C ends it
	@$(WITH_TOOLS) exec "$(TARGET)/debug/ursa-demo" up --under-make --state-dir target/demo

.PHONY: demo-check
demo-check: build ## plays the demo's scenario and prints what was seen
	@$(WITH_TOOLS) exec "$(TARGET)/debug/ursa-demo" check --under-make --state-dir target/demo-check

.PHONY: demo-kind
demo-kind: build ## the talk on Kubernetes: global, two clusters and a zone of virtual machines (as root); Ctrl-C ends it
	@$(WITH_TOOLS) $(WITH_IMAGES) exec "$(TARGET)/debug/ursa-demo-kind"

.PHONY: check
check: format lint arrows generated licences ## everything that needs no running

.PHONY: test
test: build ## all tests, with real Envoys, a real Redis and a real Kubernetes cluster
	@$(WITH_TOOLS) $(WITH_CAPTURE) $(WITH_HELM) $(WITH_CLUSTER) $(WITH_IMAGES) cargo test --workspace --no-fail-fast

.PHONY: test-long
test-long: build ## the tests on the cluster with many more rounds of what must never fail, and those that take minutes each
	@$(WITH_TOOLS) $(WITH_CLUSTER) $(WITH_IMAGES) URSA_TEST_LONG=1 cargo test --workspace --no-fail-fast --test 'kind*' --test zones -- --nocapture --include-ignored

.PHONY: images
images: ## makes the images of Ursa from a release build, with the machine's Docker; URSA_TAG (dev), URSA_IMAGE_PREFIX
	cargo build --release --package ursa-cp --package ursa-operator --package ursa-webhook --package ursa-dp --package ursa-init
	scripts/images "$(TARGET)/release" "$${URSA_TAG:-dev}"

.PHONY: cluster
cluster: ## makes the tests' Kubernetes cluster (from nothing about 10 minutes, later one)
	@$(WITH_CLUSTER) kubectl=$$(PATH="$$(e2e/kind/cluster path):$$PATH" command -v kubectl); "$$kubectl" get nodes

.PHONY: cluster-down
cluster-down: ## removes the clusters, and the Docker engine that was started for them
	@for name in ursa global east west; do e2e/kind/cluster down $$name; done
	@e2e/kind/engine down

# The control plane and the load beside it, as they are shipped: a release build.
BENCH = cargo build --release --package ursa-cp --package ursa-bench; "$(TARGET)/release/ursa-bench" --state-dir "$(TARGET)/bench/state"

.PHONY: bench
bench: ## measures control planes under load, every scenario in every size (a release build, then hours)
	@$(BENCH) --json "$(TARGET)/bench/bench.json"
	@"$(TARGET)/release/ursa-bench-report" plot "$(TARGET)/bench/bench.json" --svg "$(TARGET)/bench/bench.svg"

.PHONY: bench-quick
bench-quick: ## the same in small sizes, once each (3 minutes after the build)
	@$(BENCH) --json "$(TARGET)/bench/quick.json" --quick

.PHONY: bench-micro
bench-micro: ## measures the steps of a change, each for itself
	cargo bench --package ursa-bench --bench micro

.PHONY: fuzz
fuzz: ## feeds the fuzz targets with guidance by coverage; FUZZ_SECONDS each (60)
	scripts/fuzz

.PHONY: generate
generate: ## writes the generated files anew
	cargo xtask crds
	cargo xtask config
	cargo xtask openapi

.PHONY: tools
tools: rust-parts ## fetches what the others need: Envoy, redis-server, nft, iptables, clippy, rustfmt, cargo-deny
	@$(WITH_TOOLS) $(WITH_CAPTURE) printf 'envoy: %s\nredis-server: %s\n' "$$URSA_ENVOY" "$$(command -v redis-server)"
	@printf 'cargo-deny: %s\n' "$$(scripts/install-cargo-deny)"

.PHONY: build
build:
	@cargo build --workspace

.PHONY: rust-parts
rust-parts:
	@cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
	@cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt

.PHONY: format
format: rust-parts
	cargo fmt --all --check

.PHONY: lint
lint: rust-parts
	cargo clippy --workspace --all-targets -- -D warnings

# By the binary of the workspace's build: `cargo run --package` would unify features anew and rebuild much.
.PHONY: arrows
arrows: build
	"$(TARGET)/debug/xtask" deps

.PHONY: generated
generated: build
	"$(TARGET)/debug/xtask" crds --check
	"$(TARGET)/debug/xtask" config --check
	"$(TARGET)/debug/xtask" openapi --check

# Advisories change without us, and their database may be out of reach: `make advisories` blocks nothing.
.PHONY: licences
licences:
	deny=$$(scripts/install-cargo-deny); "$$deny" check licenses bans sources

.PHONY: advisories
advisories:
	deny=$$(scripts/install-cargo-deny); "$$deny" check advisories
