#!/usr/bin/env bash
# What the Whisper worker is built with: whisper-rs brings whisper.cpp's sources, cmake builds them, libclang reads their headers.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/packages.sh
ensure_packages build-essential cmake pkg-config libclang-dev
