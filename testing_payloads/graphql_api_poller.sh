#!/bin/sh
# Puts the GraphQL endpoint under a load that has bounds, and tells how it answered.
set -eu

usage() {
    cat <<EOF
Usage: graphql_api_poller.sh [--url URL] [--token TOKEN] [--requests N] [--concurrency N] [--duration S] [--plan]

Sends GraphQL requests to a running Throttling Sequencer, and prints how many there were, how many of them were errors
(a status other than 200, GraphQL errors, no answer), how long those without an error took, and the answers per second.

  --url URL         where the service is (default: http://127.0.0.1:8080; other than for the other scripts, no variable
                    of the environment changes it)
  --token TOKEN     who asks, as a Bearer token
  --requests N      how many to send, 1 to 10000 (default: 100)
  --concurrency N   how many at a time, 1 to 64 (default: 4)
  --duration S      seconds after which to end in any case, 1 to 600 (default: 60); what is under way does not count
  --plan            ask for the plan of game_state.json, which costs a search each, instead of { version { name } }
  --help            print this

Exits with 1 if there were errors or no answer in time, and with 2 if it is called in another way. Needs curl 7.75.
EOF
}

refuse() {
    echo "graphql_api_poller.sh: $1; see --help" >&2
    exit 2
}

check_bounds() {
    case $2 in
        '' | *[!0-9]* | ??????*) ;;
        *) [ "$2" -lt 1 ] || [ "$2" -gt "$3" ] || return 0 ;;
    esac
    refuse "$1 should be a whole number from 1 to $3"
}

url=http://127.0.0.1:8080 token='' requests=100 concurrency=4 duration=60 plan=''
while [ $# -gt 0 ]; do
    case $1 in
        --help) usage && exit ;;
        --plan) plan=1 ;;
        --url | --token | --requests | --concurrency | --duration)
            [ -n "${2-}" ] || refuse "$1 needs a value"
            case $1 in
                --url) url=$2 ;;
                --token) token=$2 ;;
                --requests) requests=$2 ;;
                --concurrency) concurrency=$2 ;;
                --duration) duration=$2 ;;
            esac
            shift
            ;;
        *) refuse "there is no option $1" ;;
    esac
    shift
done
check_bounds --requests "$requests" 10000
check_bounds --concurrency "$concurrency" 64
check_bounds --duration "$duration" 600
url=${url%/}
body='{"query":"{ version { name } }"}'
[ -z "$plan" ] || body=$("$(dirname -- "$0")/gql_curl.sh" --print-body)

load='' clock=''
clean_up() {
    # What has ended already is no longer there to be ended.
    [ -z "$load" ] || kill "$load" 2>/dev/null || :
    [ -z "$clock" ] || kill "$clock" 2>/dev/null || :
    wait
    cd /
    rm -rf -- "$folder"
}
folder=$(mktemp -d)
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
cd -- "$folder"
printf '%s' "$body" >body

# One curl keeps its connections and tells the time of each request; standard error, because that is never buffered.
# The fragment, which is not sent, numbers the requests. With --silent alone, some versions show a meter in parallel.
started=$(date +%s.%N)
curl --silent --no-progress-meter --parallel --parallel-immediate --parallel-max "$concurrency" \
    --connect-timeout 10 --max-time 30 \
    --header 'Content-Type: application/json' ${token:+--oauth2-bearer "$token"} --data-binary @body --output '#1' \
    --write-out '%{stderr}%{http_code} %{exitcode} %{time_total} %{filename_effective} %{errormsg}\n' \
    "$url/graphql#[1-$requests]" 2>answers &
load=$!
(
    # In the background of a background, $! is the load until sleep has been started.
    trap '[ "$!" = "$load" ] || { kill "$!"; wait "$!"; }; exit' TERM
    sleep "$duration" &
    wait "$!"
    kill "$load"
) 2>/dev/null &
clock=$!
wait "$load" 2>/dev/null || : # says nothing of a load that was ended
load=''
ended=$(date +%s.%N)

# A date that knows no nanoseconds leaves a text after the seconds, which awk does not read: then time is less exact.
awk '
    { body = ""; getline body <$4; close($4) }
    $1 == 200 && $2 == 0 && substr(body, 1, 8) == "{\"data\":" && !index(body, "\"errors\":[{\"message\":") {
        print $3 * 1000
        next
    }
    {
        print "error"
        why = $0
        sub(/^[^ ]* [^ ]* [^ ]* [^ ]* /, "", why)
        if ($2 == 0) why = "status " $1 ", " substr(body, 1, 200)
        if (!errors++) print "graphql_api_poller.sh: the first error: " why | "cat >&2"
    }
' answers | sort -n | awk -v requests="$requests" -v started="$started" -v ended="$ended" '
    function rank(percent) { return times[int((percent * good + 99) / 100)] }
    $1 == "error" { bad++; next }
    { times[++good] = $1 }
    END {
        answered = good + bad
        seconds = ended - started
        if (seconds * 1000 < times[good]) seconds = times[good] / 1000
        print "requests " answered (answered < requests ? " of " requests : "")
        print "errors " bad + 0
        if (good) printf "p50 %.1f ms\np95 %.1f ms\nmax %.1f ms\n", rank(50), rank(95), times[good]
        if (seconds > 0) printf "%.1f requests per second\n", answered / seconds
        exit bad > 0 || !good
    }
'
