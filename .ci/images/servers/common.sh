# shellcheck shell=bash
# What the three start scripts share: as strict as Confluent's images, and as patient.

# ensure NAME...: refuses to start without these variables.
ensure() {
    local name
    for name; do
        [[ -n "${!name-}" ]] || { echo "$name is required: set it in the container's environment" >&2; exit 1; }
    done
}

# writable DIR...: a volume with another owner is an error now, not a stack trace later.
writable() {
    local dir
    for dir; do
        [[ -w "$dir" ]] || { echo "$dir is not writable by $(id -un), uid $(id -u)" >&2; exit 1; }
    done
}

# wait_for WHAT SECONDS HOST:PORT[,HOST:PORT...]: until one of them takes a connection; gives up after SECONDS.
wait_for() {
    local what=$1 limit=$2 server
    local -a servers
    IFS=, read -ra servers <<<"$3"
    until ((SECONDS >= limit)); do
        for server in "${servers[@]}"; do
            if nc -z -w 2 "${server%:*}" "${server##*:}" 2>/dev/null; then return; fi
        done
        sleep 0.5
    done
    echo "$what did not answer at $3 within $limit s" >&2
    exit 1
}
