#!/bin/sh
# Asks over GraphQL: for the plan of a game state, for its goals live, or whatever else.
set -eu

usage() {
    cat <<EOF
Usage: gql_curl.sh [--url URL] [--user NAME[:PASSWORD] | --token TOKEN] [--subscribe] [--query QUERY] [--print-body]
                   [FILE]

Sends a GraphQL query to a running Throttling Sequencer and prints the answer. By default it is calculateThrottleSteps
for FILE, a game state as REST takes it or in camel case (default: game_state.json beside this script).

  --url URL       where the service is (default: \$THROTTLING_SEQUENCER_URL, else http://127.0.0.1:8080)
  --user NAME     who asks, as Basic credentials
  --token TOKEN   who asks, as a Bearer token
  --subscribe     ask for server-sent events, by default those of generateSteps: the plan's goals, live
  --query QUERY   a query (with --subscribe: a subscription) of your own; it may use FILE as the variable
                  \$gameStateInput: GameStateInputType!
  --print-body    print the request's body instead of sending it
  --help          print this

Exits with 1 if there is no answer, one that is not 2xx or one with GraphQL errors, and with 2 if it is called in
another way.
EOF
}

refuse() {
    echo "gql_curl.sh: $1; see --help" >&2
    exit 2
}

fail() {
    echo "gql_curl.sh: $1" >&2
    exit 1
}

as_json_string() {
    sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e "s/$tab/\\\\t/g" -e "s/$return/\\\\r/g" |
        awk '{ printf "%s%s", separator, $0; separator = "\\n" }'
}

# A quotation mark, the name, a quotation mark and a colon are a key: within a string, the marks would have backslashes.
in_camel_case() {
    tr '\n' ' ' | sed \
        -e 's/"player_units"\([[:space:]]*:\)/"playerUnits"\1/g' \
        -e 's/"enemy_units"\([[:space:]]*:\)/"enemyUnits"\1/g'
}

# Sends the body, and adds a line of its own to the answer: the HTTP status, and how curl ended.
send() {
    end=0
    printf '%s' "$body" | curl --silent --show-error --no-buffer --connect-timeout 10 --data-binary @- \
        --header 'Content-Type: application/json' --header "Accept: $accept" ${limit:+--max-time "$limit"} \
        ${user:+--user "$user"} ${token:+--oauth2-bearer "$token"} --write-out '\n%{http_code}' "$url/graphql" || end=$?
    echo " $end"
}

# Prints the answer as it comes, and tells at its end what was wrong with it.
show() {
    errors='' is_complete=''
    IFS= read -r line
    while IFS= read -r next; do
        line=${line%"$return"}
        printf '%s\n' "$line"
        case $line in
            # Errors open with their message, which no list that a query names "errors" does.
            *'"errors":[{"message":'*) errors=1 ;;
            'event: complete') is_complete=1 ;;
        esac
        line=$next
    done
    case $line in
        2??' 0') ;;
        *' 0') fail "the answer to POST $url/graphql was ${line% *}" ;;
        *) fail "no whole answer to POST $url/graphql" ;;
    esac
    [ -z "$errors" ] || fail "the answer has GraphQL errors"
    [ -z "$subscribe" ] || [ -n "$is_complete" ] || fail "the events ended without being complete"
}

url=${THROTTLING_SEQUENCER_URL:-http://127.0.0.1:8080} user='' token='' subscribe='' query='' print_body='' state=''
tab=$(printf '\t') return=$(printf '\r')
while [ $# -gt 0 ]; do
    case $1 in
        --help) usage && exit ;;
        --subscribe) subscribe=1 ;;
        --print-body) print_body=1 ;;
        --url | --user | --token | --query)
            [ -n "${2-}" ] || refuse "$1 needs a value"
            case $1 in
                --url) url=$2 ;;
                --user) user=$2 ;;
                --token) token=$2 ;;
                --query) query=$2 ;;
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

if [ -n "$subscribe" ]; then
    kind=subscription field=generateSteps accept=text/event-stream limit=''
else
    kind=query field=calculateThrottleSteps accept=application/json limit=60
fi
if [ -z "$query" ]; then
    query="$kind Plan(\$gameStateInput: GameStateInputType!) {
  $field(gameStateInput: \$gameStateInput) { coordinate { x y } throttle }
}"
fi
body=$(
    printf '{"query":"%s","variables":{"gameStateInput":%s}}' \
        "$(printf '%s\n' "$query" | as_json_string)" "$(in_camel_case <"$state")"
)
if [ -n "$print_body" ]; then
    printf '%s\n' "$body"
else
    send | show
fi
