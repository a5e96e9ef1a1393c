# Sourced by churn, compare, hour and kill, the subcommands of viaduct-bench.
set -euo pipefail
cd "$(dirname "$0")/.."

# Kamailio, kamcmd and ip live in the administrator's folders.
export PATH="$PATH:/usr/sbin:/sbin"

# The program ends what it starts; this does it where the program is killed. A
# contender may stand still then, and hears nothing but SIGKILL.
kill_group() {
    if [[ -n ${group:-} ]]; then
        kill -KILL -- "-$group" 2>/dev/null || true
    fi
}
trap kill_group EXIT
trap 'exit 130' INT TERM

# bench SUBCOMMAND [OPTION…]
bench() {
    cargo build --release --locked --quiet -p viaduct -p viaduct-bench
    set -m # a process group of its own
    "${CARGO_TARGET_DIR:-target}/release/viaduct-bench" "$@" &
    group=$!
    wait "$group"
}
