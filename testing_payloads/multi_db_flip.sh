#!/bin/sh
# Moves the writer from one database to the other and back, takes both down, and brings them up again.
set -eu

usage() {
    cat <<EOF
Usage: multi_db_flip.sh [--target lab|compose] [--folder FOLDER] [--file FILE] [--cycle N] [--order first|second]
                        [--timeout SECONDS]

Moves the writer of a database of two nodes: drains one in HAProxy and promotes the other, the same back, then kills
both and starts them again. After each step it waits until the databases themselves say that it is done, and tells who
takes writes.

  --target TARGET    lab: what \`api-server-cli lab up\` started (default); compose: what docker compose started
  --folder FOLDER    where the lab is (default: .data/lab of this repository)
  --file FILE        the compose file (default: deploy/compose.multi-db.yml)
  --cycle N          how often, 1 to 1000 (default: 1)
  --order ORDER      who is started first after both were down: the first writer or the second node (default: by turns)
  --timeout SECONDS  how long to wait for a state, 1 to 600 (default: 60)
  --help             print this

API_SERVER_CLI names the program that drives the lab (default: the one of .venv, else that on the PATH). Whatever
happens, before it ends it starts the nodes again, and tells of each with which it does not succeed. Exits with 1 if a
state does not come about, and with 2 if it is called in another way.
EOF
}

refuse() {
    echo "multi_db_flip.sh: $1; see --help" >&2
    exit 2
}

fail() {
    echo "multi_db_flip.sh: $1" >&2
    exit 1
}

# What a lab can be asked and told.

lab() {
    command=$1
    shift
    "$cli" lab "$command" --folder "$folder" "$@"
}

lab_nodes() { echo a b; }
lab_writer() { lab writer 2>/dev/null; }
lab_promote() { lab promote "$2"; }
lab_drain() { lab drain "$1"; }
lab_ready() { lab ready "$1"; }
lab_rejoin() { lab rejoin "$1"; }
lab_kill() { lab kill "$1"; }
lab_start() { lab start "$1"; }
lab_finish() { lab promote; }

# Who runs and is a part of the cluster is left alone: a rejoin would begin by killing it.
lab_revive() {
    case $(lab status | awk -v node="$1" '$1 == "node" && $2 == node { print $3, (/, fenced/ ? "fenced" : "") }') in
        primary* | standby*) ;;
        *fenced) lab rejoin "$1" ;;
        *) lab start "$1" ;;
    esac
}

lab_follows() {
    lab status | awk -v node="$1" '
        /^node / {
            timeline = ""
            for (field = 3; field < NF; field++) if ($field == "timeline") timeline = $(field + 1)
            sub(",", "", timeline)
            if ($3 == "primary") of_primary = timeline
            if ($2 == node && $3 == "standby") of_node = timeline
        }
        END { exit !(of_node != "" && of_node == of_primary) }'
}

# The same of containers. Their nodes find out for themselves how they may start: deploy/postgres/node.sh.

compose() {
    docker compose --file "$file" "$@" </dev/null
}

ask() {
    compose exec -T --env PGPASSWORD=postgres --env PGCONNECT_TIMEOUT=2 "$1" \
        psql --no-psqlrc --quiet --tuples-only --no-align --host 127.0.0.1 --username postgres --command "$2"
}

in_haproxy() {
    for backend in writer readers; do
        # shellcheck disable=SC2016 # the shell in the container puts the command in
        complaint=$(
            compose exec -T haproxy bash -c 'exec 3<>/dev/tcp/127.0.0.1/9999; echo "$1" >&3; cat <&3' bash \
                "set server $backend/$1 state $2"
        )
        [ -z "$complaint" ] || fail "HAProxy says: $complaint"
    done
}

compose_nodes() { echo db1 db2; }
compose_drain() { in_haproxy "$1" drain; }
compose_ready() { in_haproxy "$1" ready; }
compose_rejoin() { compose_start "$1"; }
compose_kill() { compose kill "$1"; }
compose_start() { compose up --detach --no-deps --no-recreate "$1"; }
compose_revive() { compose_start "$1"; }

compose_writer() {
    for candidate in $(compose_nodes); do
        if [ "$(ask "$candidate" 'SELECT NOT pg_is_in_recovery()' 2>/dev/null)" = t ]; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

compose_follows() {
    followed=$(compose_writer) || return 1
    # Who is not waited for lacks what is acknowledged, and may not take over.
    following="SELECT count(*) FROM pg_stat_replication WHERE application_name = '$1' AND state = 'streaming' AND sync_state IN ('sync', 'quorum')"
    [ "$(ask "$followed" "$following" 2>/dev/null)" = 1 ]
}

# Before there is a new primary the old one is dead, and can only come back as a standby.
compose_promote() {
    compose kill "$1" &&
        compose exec -T "$2" sh -c "echo $2 >/fence/writer.new && mv /fence/writer.new /fence/writer" &&
        compose_lead "$2"
}

# Its only standby is gone.
compose_lead() {
    ask "$1" "ALTER SYSTEM SET synchronous_standby_names = ''" &&
        ask "$1" 'SELECT pg_reload_conf()' &&
        ask "$1" 'SELECT pg_promote(true, 60)'
}

# Who is named and was not promoted is waited for by the other one.
compose_finish() {
    for named in $(compose_nodes); do
        if [ "$(compose exec -T "$named" cat /fence/writer)" = "$named" ]; then
            [ "$(ask "$named" 'SELECT pg_is_in_recovery()')" != t ] || compose_lead "$named"
            return
        fi
    done
}

# What both do.

does() {
    action=$1
    shift
    "${target}_$action" "$@"
}

# Tells a step as it is taken, and what it had to say only if it fails.
step() {
    echo "$1"
    shift
    said=$("$@" 2>&1) || fail "${action:-it} failed: $said"
}

is_writer() { [ "$(does writer)" = "$1" ]; }
nobody_writes() { ! does writer >/dev/null; }

# Asks again and again for a state; how long it takes does not matter, but for the end.
wait_until() {
    what=$1 until=$(($(date +%s) + timeout))
    shift
    until "$@"; do
        [ "$(date +%s)" -le "$until" ] || fail "in $timeout s it did not come about that $what"
        sleep 0.2
    done
    echo "  $what"
}

# Drains who takes writes, and has the other one take over.
hand_over() {
    does follows "$2" || fail "$2 does not follow $1, and may lack what was acknowledged"
    step "drain $1" does drain "$1"
    step "promote $2" does promote "$1" "$2"
    wait_until "$2 takes writes" is_writer "$2"
    step "bring $1 back as a standby" does rejoin "$1"
    wait_until "$1 follows $2" does follows "$1"
    step "ready $1" does ready "$1"
}

# Who was killed as the primary comes back as one: nobody was promoted meanwhile.
fall_and_rise() {
    step "kill $1" does kill "$1"
    step "kill $2" does kill "$2"
    wait_until "nobody takes writes" nobody_writes
    if [ "$3" = first ]; then early=$1 late=$2; else early=$2 late=$1; fi
    step "start $early" does start "$early"
    step "start $late" does start "$late"
    wait_until "$1 takes writes" is_writer "$1"
    wait_until "$2 follows $1" does follows "$2"
}

mend() {
    [ -z "$is_done" ] || return 0
    trap '' INT TERM HUP
    echo "multi_db_flip.sh: bringing the nodes up again" >&2
    # The second time a node that had to wait for the other one follows it.
    for attempt in first last; do
        for node in $nodes; do
            try "$attempt" "start $node" does revive "$node"
        done
        does writer >/dev/null || try "$attempt" "finish a promotion" does finish
    done
    seconds=0
    until does writer >/dev/null || [ "$seconds" = 15 ]; do
        seconds=$((seconds + 1))
        sleep 1
    done
    does writer >/dev/null || echo "multi_db_flip.sh: nobody takes writes" >&2
    for node in $nodes; do
        try last "ready $node" does ready "$node"
    done
}

# Tells what does not succeed the last time.
try() {
    attempt=$1 what=$2
    shift 2
    complaint=$("$@" 2>&1) || [ "$attempt" = first ] || echo "multi_db_flip.sh: $what failed: $complaint" >&2
}

is_number() {
    case $1 in '' | *[!0-9]* | ?????*) return 1 ;; esac
    [ "$1" -ge 1 ] && [ "$1" -le "$2" ]
}

here=$(cd -- "$(dirname -- "$0")/.." && pwd)
target=lab folder=$here/.data/lab file=$here/deploy/compose.multi-db.yml cycles=1 order='' timeout=60
while [ $# -gt 0 ]; do
    case $1 in
        --help) usage && exit ;;
        --target | --folder | --file | --cycle | --order | --timeout)
            [ -n "${2-}" ] || refuse "$1 needs a value"
            case $1 in
                --target) target=$2 ;;
                --folder) folder=$2 ;;
                --file) file=$2 ;;
                --cycle) cycles=$2 ;;
                --order) order=$2 ;;
                --timeout) timeout=$2 ;;
            esac
            shift
            ;;
        *) refuse "there is nothing called $1" ;;
    esac
    shift
done
case $target in lab | compose) ;; *) refuse "--target is lab or compose" ;; esac
case $order in '' | first | second) ;; *) refuse "--order is first or second" ;; esac
is_number "$cycles" 1000 || refuse "--cycle is a number from 1 to 1000"
is_number "$timeout" 600 || refuse "--timeout is a number from 1 to 600"
if [ -x "$here/.venv/bin/api-server-cli" ]; then own=$here/.venv/bin/api-server-cli; else own=api-server-cli; fi
cli=${API_SERVER_CLI:-$own}
if [ "$target" = compose ]; then
    command -v docker >/dev/null || fail "there is no docker here"
    [ -r "$file" ] || refuse "$file cannot be read"
fi

if [ "$target" = lab ]; then
    command -v "$cli" >/dev/null || fail "there is no $cli here: run make setup, or set API_SERVER_CLI"
    # Its own reason, where it has one.
    first=$(lab writer) || exit 1
else
    first=$(does writer) || fail "no node of the $target takes writes: is it up?"
fi
nodes=$(does nodes)
second=''
for node in $nodes; do [ "$node" = "$first" ] || second=$node; done
is_done=''
trap mend EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
echo "$first takes writes"
cycle=0
while [ "$cycle" -lt "$cycles" ]; do
    cycle=$((cycle + 1))
    [ "$cycles" = 1 ] || echo "cycle $cycle"
    hand_over "$first" "$second"
    hand_over "$second" "$first"
    if [ -n "$order" ]; then turn=$order; elif [ $((cycle % 2)) = 1 ]; then turn=second; else turn=first; fi
    fall_and_rise "$first" "$second" "$turn"
done
is_done=1
echo "done: $first takes writes, $second follows"
