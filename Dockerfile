# Repartee in a container: `docker build -t repartee .`, or docker compose (docker-compose.yml, and docker-compose.gpu.yml beside it).
#
# Each step is a script of scripts/, so what is done here and what `make` does can't drift apart. Where no Docker engine is at
# hand, `make test-container` runs the steps of the last stage in a chroot.

# --- build arguments: AVA's names. An engine that isn't here yet ends the build with a sentence.
ARG INCLUDE_SHERPA=true
ARG INCLUDE_PIPER=true
ARG INCLUDE_KOKORO=true
ARG INCLUDE_MELOTTS=false
ARG INCLUDE_TONE=false
ARG INCLUDE_WHISPER_CPP=false
ARG INCLUDE_LLAMA=true
ARG INCLUDE_VOSK=false
ARG INCLUDE_FASTER_WHISPER=false
ARG INCLUDE_SILERO=false
ARG INCLUDE_KROKO_EMBEDDED=false
ARG KROKO_SERVER_SHA256=
ARG ONNX_RUNTIME_SHA256=
ARG LLAMA_CUDA_ARCHITECTURES=
# --- and ours: "cuda" with NVIDIA's images instead of Debian's computes on a GPU; docker-compose.gpu.yml has all three.
ARG REPARTEE_WORKER_FEATURES=
ARG BUILD_IMAGE=debian:bookworm-slim
ARG RUNTIME_IMAGE=debian:bookworm-slim

FROM rust:1.95-slim-bookworm AS rust

FROM debian:bookworm-slim AS engines
ARG INCLUDE_SHERPA
ARG INCLUDE_PIPER
ARG INCLUDE_KOKORO
ARG INCLUDE_MELOTTS
ARG INCLUDE_TONE
ARG INCLUDE_WHISPER_CPP
ARG INCLUDE_LLAMA
ARG INCLUDE_VOSK
ARG INCLUDE_FASTER_WHISPER
ARG INCLUDE_SILERO
ARG INCLUDE_KROKO_EMBEDDED
ARG KROKO_SERVER_SHA256
ARG ONNX_RUNTIME_SHA256
COPY scripts/container-engines.sh /
RUN /container-engines.sh > /engines

FROM ${BUILD_IMAGE} AS build
# rustup's programs run on any glibc since 2.17, so also where BUILD_IMAGE is another system.
COPY --from=rust /usr/local/cargo /usr/local/cargo
COPY --from=rust /usr/local/rustup /usr/local/rustup
ENV CARGO_HOME=/usr/local/cargo \
    RUSTUP_HOME=/usr/local/rustup \
    PATH=/usr/local/cargo/bin:$PATH
WORKDIR /repartee
# The set-up first, from the few files that it reads, so that a change of the sources doesn't repeat it.
COPY Cargo.toml ./
COPY scripts scripts
RUN scripts/setup.sh
COPY --from=engines /engines /engines
COPY . .
ARG REPARTEE_WORKER_FEATURES
ARG LLAMA_CUDA_ARCHITECTURES
RUN scripts/container-build.sh /engines /image

FROM ${RUNTIME_IMAGE}
COPY scripts/packages.sh scripts/container-runtime.sh /usr/local/lib/repartee/scripts/
COPY --from=engines /engines /usr/local/lib/repartee/engines
RUN /usr/local/lib/repartee/scripts/container-runtime.sh /usr/local/lib/repartee/engines
COPY --from=build /image/ /
# Models are looked for in the volume; the two small ones of the set-up are found in REPARTEE_HOME where the volume has none.
# In a container, loopback is the container's own: the port must be open, so a token is needed (REPARTEE_TOKEN).
ENV REPARTEE_HOME=/usr/local/lib/repartee \
    REPARTEE_WORKERS=/usr/local/bin \
    REPARTEE_MODELS=/app/models \
    REPARTEE_LISTEN=0.0.0.0:8080
# A repartee.toml is read from here.
WORKDIR /app
VOLUME ["/app/models", "/app/data"]
USER repartee
# Ours, and the one of AVA's local AI server.
EXPOSE 8080 8765
# Ready means that recogniser and voices are loaded: seconds for the default ones, minutes for large models.
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s CMD ["repartee", "health"]
# serve drains its sessions on SIGTERM, which is what a container engine sends.
ENTRYPOINT ["repartee"]
CMD ["serve"]
