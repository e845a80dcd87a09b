# Postgres with chatbot_sync, built from this folder:
#   docker build --build-arg PG_MAJOR=17 -t chatbot_sync .
#   docker run -e POSTGRES_PASSWORD=... chatbot_sync
# It is the official image of Postgres with pgvector and chatbot_sync in it; new databases have the extension.
ARG PG_MAJOR=17

FROM postgres:${PG_MAJOR}-trixie AS build
ARG PG_MAJOR
ARG RUST_VERSION=1.95.0
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends \
        build-essential ca-certificates clang git libclang-dev python3 python3-pip rustup \
        "postgresql-server-dev-${PG_MAJOR}" "postgresql-${PG_MAJOR}-pgvector" \
    && rm -rf /var/lib/apt/lists/*
RUN rustup toolchain install "${RUST_VERSION}" --profile minimal && rustup default "${RUST_VERSION}"
WORKDIR /src
COPY . .
RUN make package PG_CONFIG="/usr/lib/postgresql/${PG_MAJOR}/bin/pg_config" MAINTAINER="chatbot_sync <root@localhost>"

FROM postgres:${PG_MAJOR}-trixie
ARG PG_MAJOR
COPY --from=build /src/target/packages/*.deb /tmp/
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends /tmp/*.deb \
    && rm -rf /var/lib/apt/lists/* /tmp/*.deb
RUN printf 'CREATE EXTENSION IF NOT EXISTS chatbot_sync CASCADE;\n' >/docker-entrypoint-initdb.d/chatbot_sync.sql
CMD ["postgres", "-c", "shared_preload_libraries=chatbot_sync"]
