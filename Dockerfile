# 构建 / build:  docker build -t marketprism/monitoring-alerting:latest .
#
# Docker 20.10's classic builder reads this as well as BuildKit: no --mount, no here-documents, no --chmod.

# The workspace without its code. A layer copied from here stays the same while only code changes, so the
# dependencies below are compiled once for each change of a manifest.
FROM rust:1.95-bookworm AS manifests
WORKDIR /source
COPY . .
RUN find . -type f ! -name Cargo.toml ! -name Cargo.lock ! -path '*/benches/*.rs' -delete \
 && find . -name '*.rs' -exec truncate --size=0 {} + \
 && for manifest in crates/*/Cargo.toml bench/Cargo.toml fuzz/targets/Cargo.toml; do \
      mkdir -p "${manifest%/*}/src" && : > "${manifest%/*}/src/lib.rs" || exit 1; \
    done \
 && echo 'fn main() {}' > crates/marketprism/src/main.rs

FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY --from=manifests /source .
RUN cargo build --release --locked -p marketprism
COPY . .
# Which commit this is, for `marketprism_build_info`; below the dependencies, which do not depend on it.
ARG MARKETPRISM_REVISION=unknown
# Copied files keep their age; touched ones are newer than the empty ones compiled above.
RUN find crates -name '*.rs' -exec touch {} + \
 && cargo build --release --locked -p marketprism \
 && objcopy --compress-debug-sections=zlib target/release/marketprism

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="MarketPrism monitoring and alerting" \
      org.opencontainers.image.licenses="Apache-2.0"
# curl is for the health check, tar for the guide's backup; time zones are named in messages.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates curl tar tzdata \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --system --gid 10001 marketprism \
 && useradd --system --uid 10001 --gid 10001 --home-dir /app --no-create-home --shell /usr/sbin/nologin marketprism \
 && mkdir -p /app/config /app/data /app/logs \
 && chown 10001:10001 /app/data /app/logs
WORKDIR /app
COPY config config
COPY --from=build /source/target/release/marketprism /usr/local/bin/marketprism
# The number, not the name: Kubernetes' runAsNonRoot can judge only numbers.
USER 10001:10001
EXPOSE 8082
HEALTHCHECK --interval=30s --timeout=10s --start-period=40s --retries=3 \
  CMD ["curl", "-f", "http://localhost:8082/health"]
# No init in between: the program takes its signals itself and starts no other process.
ENTRYPOINT ["marketprism"]
CMD ["serve", "--config", "/app/config/config.yaml", "--data-dir", "/app/data"]
