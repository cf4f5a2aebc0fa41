#!/bin/sh
# Restarts the server with histories on disk while clients publish: everybody reconnects, and nothing may be lost.
#
#   benches/restart.sh                           5,000 members, three restarts
#   benches/restart.sh --members 1000            10,000 members; needs 10,010 open files in each of the two processes
#   RESTART_SIGNAL=KILL benches/restart.sh       kill -9 instead; an ack then means that the publication is on disk
#
# Arguments go to `loadtest run storm-recovery`, THRONG_* variables to the server. Build both programs first:
# `cargo build --release`. If the server does not start, the script prints its log.
set -eu

if [ "${1-}" = start ]; then # in the background, until it listens
    log=$RESTART_DIR/log
    "$RESTART_BIN/throng" > "$log" 2>&1 < /dev/null &
    echo $! > "$RESTART_DIR/pid"
    for _ in $(seq 600); do
        if grep -q "listening on" "$log"; then exit 0; fi
        sleep 0.05
    done
    cat "$log" >&2
    exit 1
fi

if [ "${1-}" = stop ]; then
    pid=$(cat "$RESTART_DIR/pid")
    kill "-$RESTART_SIGNAL" "$pid"
    while kill -0 "$pid" 2> /dev/null; do sleep 0.02; done
    exit 0
fi

cd "$(dirname "$0")/.."
export RESTART_BIN="${CARGO_TARGET_DIR:-target}/release"
export RESTART_SIGNAL="${RESTART_SIGNAL:-TERM}"
export THRONG_LISTEN="${THRONG_LISTEN:-127.0.0.1:8123}"
if [ "$RESTART_SIGNAL" = KILL ]; then export THRONG_HISTORY_FSYNC=always; fi
RESTART_DIR=$(mktemp -d)
export RESTART_DIR THRONG_HISTORY_PATH="$RESTART_DIR/histories"
trap 'benches/restart.sh stop; rm -rf "$RESTART_DIR"' EXIT

benches/restart.sh start
"$RESTART_BIN/loadtest" run storm-recovery --url "ws://$THRONG_LISTEN/ws" \
    --restart-command "benches/restart.sh stop && benches/restart.sh start" "$@"
