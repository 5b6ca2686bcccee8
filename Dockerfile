# Repartee with its embedded default: recogniser, voices, voice detector.
#
# NOT YET BUILT BY ITS AUTHORS: no container engine was at hand when it was written. Each command in it is one that
# scripts/setup.sh or the Makefile also runs on Debian 12; the file as a whole is untested. Reports are welcome.

FROM rust:1.95-bookworm AS build
WORKDIR /repartee
# The set-up first, from the few files that it reads, so that a change of the sources doesn't repeat it.
COPY Cargo.toml ./
COPY scripts scripts
RUN scripts/setup.sh
COPY . .
RUN cargo build --release --locked -p repartee -p repartee-worker-pocketsphinx -p repartee-worker-flite

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends libpocketsphinx3 pocketsphinx-en-us libflite1 ca-certificates libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --create-home repartee
COPY --from=build /repartee/target/release/repartee /repartee/target/release/repartee-worker-* /usr/local/bin/
COPY --from=build /repartee/.repartee /usr/local/lib/repartee
COPY LICENSE LICENSE-MIT LICENSE-APACHE /usr/share/doc/repartee/
USER repartee
# In a container, loopback is the container's own: the port must be open, so a token is needed (REPARTEE_TOKEN).
ENV REPARTEE_HOME=/usr/local/lib/repartee \
    REPARTEE_WORKERS=/usr/local/bin \
    REPARTEE_LISTEN=0.0.0.0:8080
EXPOSE 8080
# Ready means that recogniser and voices are loaded, which takes seconds.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["repartee", "health"]
# serve drains its sessions on SIGTERM, which is what a container engine sends.
ENTRYPOINT ["repartee"]
CMD ["serve"]
