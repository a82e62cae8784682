#!/bin/sh
# Asks over REST whether the service lives and is ready, which version it is, and for a plan.
set -eu

usage() {
    cat <<EOF
Usage: http_api_curl.sh [--url URL] [--user NAME[:PASSWORD] | --token TOKEN] [FILE]

Asks a running Throttling Sequencer whether it lives, whether it is ready, which version it is, and for the plan of
FILE, a game state (default: game_state.json beside this script). Prints what it asks, and the answers.

  --url URL       where the service is (default: \$THROTTLING_SEQUENCER_URL, else http://127.0.0.1:8080)
  --user NAME     who asks, as Basic credentials
  --token TOKEN   who asks, as a Bearer token
  --help          print this

Exits with 1 if an answer is not 2xx, and with 2 if it is called in another way.
EOF
}

refuse() {
    echo "http_api_curl.sh: $1; see --help" >&2
    exit 2
}

# ask METHOD PATH [FILE]
ask() {
    printf '%s\n' "$1 $url$2${3:+ < $3}"
    answer=$(
        curl --silent --show-error --connect-timeout 10 --max-time 60 --write-out '\n%{http_code}' \
            ${3:+--header 'Content-Type: application/json' --data-binary "@$3"} \
            ${user:+--user "$user"} ${token:+--oauth2-bearer "$token"} "$url$2"
    ) || {
        echo "http_api_curl.sh: no answer to $1 $url$2" >&2
        exit 1
    }
    status=${answer##*"$newline"}
    printf '%s %s\n' "$status" "${answer%"$newline"*}"
    case $status in
        2??) ;;
        *) failed="$failed${failed:+, }$1 $2 ($status)" ;;
    esac
}

url=${THROTTLING_SEQUENCER_URL:-http://127.0.0.1:8080} user='' token='' state='' failed=''
newline='
'
while [ $# -gt 0 ]; do
    case $1 in
        --help) usage && exit ;;
        --url | --user | --token)
            [ -n "${2-}" ] || refuse "$1 needs a value"
            case $1 in
                --url) url=$2 ;;
                --user) user=$2 ;;
                --token) token=$2 ;;
            esac
            shift
            ;;
        -*) refuse "there is no option $1" ;;
        *)
            [ -z "$state" ] || refuse "one game state is enough"
            state=$1
            ;;
    esac
    shift
done
[ -z "$user" ] || [ -z "$token" ] || refuse "either --user or --token"
# curl asks for a password where there is no colon.
case $user in '' | *:*) ;; *) user=$user: ;; esac
url=${url%/}
state=${state:-$(dirname -- "$0")/game_state.json}
[ -r "$state" ] || refuse "$state cannot be read"

ask GET /livez
ask GET /readyz
ask GET /version
ask POST /api/v1/throttle/calculate_throttle_steps "$state"
if [ -n "$failed" ]; then
    echo "http_api_curl.sh: not 2xx: $failed" >&2
    exit 1
fi
