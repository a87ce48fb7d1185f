# MarketPrism's commands. `make help` lists them.
# Each does its own set-up; what it needs from Debian it installs, or says how.

CARGO ?= cargo
RELEASE := target/release/marketprism
# Real peers that the tests start on loopback; a missing one fails the run.
PEERS := prometheus prometheus-alertmanager prometheus-node-exporter python3-aiosmtpd ceph-prometheus-alerts postgresql \
	docker-compose debootstrap debian-archive-keyring systemd iproute2 util-linux curl

# Peers that only the measurements need.
BENCH_PEERS := prometheus victoria-metrics

# The release for other systems is linked by zig against the glibc that they have; both tools are Python packages.
DIST_GLIBC := 2.28
DIST_TARGET := $(shell uname -m)-unknown-linux-gnu
DIST_RELEASE := target/$(DIST_TARGET)/release/marketprism
DIST_TOOLS := target/dist-tools
DIST_PACKAGES := ziglang==0.17.0 cargo-zigbuild==0.24.0

.PHONY: help run build test test-long check bench dist peers toolchain clean

help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: build ## Build and start on http://127.0.0.1:8082 with data in ./data
	$(RELEASE) serve --config config/config.yaml --data-dir data

build: toolchain ## Build the release binary
	$(CARGO) build --release --locked -p marketprism

test: toolchain peers check ## Everything that must hold: lints, walls, unit, integration, peers, crashes
	$(CARGO) test --workspace --locked --quiet --no-fail-fast

test-long: toolchain peers ## The same tests with long counts (hours)
	MARKETPRISM_TEST_SCALE=100 $(CARGO) test --workspace --locked --release

check: toolchain ## Format, lints with denied warnings, walls between rooms
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked --quiet -- -D warnings
	$(CARGO) test --quiet --locked -p marketprism --test architecture
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --log-level error check licenses bans sources; \
	else echo "cargo-deny is not installed; licences unchecked (cargo install --locked cargo-deny)"; fi

bench: MORE_PEERS := $(BENCH_PEERS)
bench: toolchain peers build ## Measure side by side with the peers; figures go to bench/results
	$(CARGO) run --release --locked -p marketprism-bench --bin side_by_side -- --binary $(RELEASE)

dist: toolchain ## Build for glibc 2.28 and newer (the deployment guide's systems), check and pack it
	@command -v objdump >/dev/null || { echo "no objdump; run: apt-get install binutils" >&2; exit 1; }
	@python3 -m venv $(DIST_TOOLS) || { echo "run: apt-get install python3-venv" >&2; exit 1; }
	$(DIST_TOOLS)/bin/pip install --quiet --disable-pip-version-check $(DIST_PACKAGES)
	PATH="$(CURDIR)/$(DIST_TOOLS)/bin:$$PATH" $(CARGO) zigbuild --release --locked -p marketprism --target $(DIST_TARGET).$(DIST_GLIBC)
	@newest=$$(objdump -T $(DIST_RELEASE) | grep -oE 'GLIBC_[0-9.]+' | sort -uV | tail -n 1); \
	echo "newest glibc symbol: $$newest"; \
	[ "$$(printf '%s\nGLIBC_$(DIST_GLIBC)\n' "$$newest" | sort -V | tail -n 1)" = GLIBC_$(DIST_GLIBC) ] || \
	{ echo "needs a newer glibc than $(DIST_GLIBC)" >&2; exit 1; }
	@rm -rf target/dist && mkdir -p target/dist/marketprism/deploy && cp -r config target/dist/marketprism/ && \
	cp -r deploy/systemd target/dist/marketprism/deploy/ && \
	objcopy --compress-debug-sections=zlib $(DIST_RELEASE) target/dist/marketprism/marketprism && \
	tar -C target/dist --owner=0 --group=0 -czf target/dist/marketprism-$$($(DIST_RELEASE) --version | cut -d' ' -f2)-$(DIST_TARGET).tar.gz marketprism && \
	ls -l target/dist/*.tar.gz

peers: ## Install the peers the tests start (Debian)
	@missing=""; for p in $(PEERS) $(MORE_PEERS); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then echo "installing test peers:$$missing"; \
	  if [ "$$(id -u)" = 0 ]; then sudo=""; else sudo="sudo"; fi; \
	  $$sudo apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends $$missing >/dev/null || \
	  { echo "could not install them; run: apt-get install$$missing" >&2; exit 1; }; \
	  for s in prometheus prometheus-alertmanager prometheus-node-exporter postgresql; do $$sudo service $$s stop >/dev/null 2>&1 || true; done; \
	fi

toolchain:
	@command -v $(CARGO) >/dev/null || { echo "cargo not found; install Rust 1.95 or newer from https://rustup.rs" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "no C compiler; run: apt-get install gcc" >&2; exit 1; }

clean: ## Remove what was built
	$(CARGO) clean
