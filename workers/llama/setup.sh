#!/usr/bin/env bash
# What building the llama worker needs beside Rust: a C++ compiler, cmake, and libclang for its bindings. Called by
# `make worker-llama`; changes nothing when nothing is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/packages.sh
ensure_packages build-essential cmake libclang-dev
