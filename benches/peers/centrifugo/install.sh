#!/bin/sh
# Builds Centrifugo from its sources with the Go of this machine: minutes the first time.
set -eu
version=6.9.1
module=github.com/centrifugal/centrifugo/v6
GOBIN="$PWD/target" exec go install -trimpath -ldflags "-X $module/internal/build.Version=$version" "$module@v$version"
