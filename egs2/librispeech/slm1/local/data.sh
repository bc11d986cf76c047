#!/usr/bin/env bash
# Stage 1 of this recipe: LibriSpeech.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec ./utils/prepare_librispeech.sh "$@"
