#!/usr/bin/env bash
# Fails an Aurora cluster over, and shows what its writer and its reader do, through tunnels that follow them.
# bash, because without a terminal not every sh gives a tunnel a process group of its own; 3.2, which macOS has, will do.
set -eu

usage() {
    cat <<EOF
Usage: aws_rds_port_forward_failover_sequence.sh --cluster NAME --bastion INSTANCE [--region NAME] [--profile NAME]
                   [--writer-port PORT] [--reader-port PORT] [--user NAME] [--database NAME] [--failovers N]
                   [--target-instance NAME] [--timeout S] [--interval S] [--keep-open] [--dry-run]

Opens a tunnel by AWS Systems Manager (SSM) from a port of this machine, through a bastion, to an Aurora cluster's
endpoint, which is where writes go, and a second one to its reader endpoint. Then fails the cluster over, shows when the
writer has moved, and opens the tunnels again: then, when one ends, and when one leads to an instance in another role.
With no failover and --keep-open it only keeps the tunnels open. At its end, whatever ends it, the tunnels are closed.

  --cluster NAME          the Aurora cluster (default: \$AURORA_CLUSTER)
  --bastion INSTANCE      the EC2 instance in its network, i-… (default: \$AURORA_BASTION)
  --region NAME           where they are (default: as the AWS CLI has it, \$AWS_REGION, \$AWS_DEFAULT_REGION, …)
  --profile NAME          whose credentials (default: as the AWS CLI has it, \$AWS_PROFILE, …)
  --writer-port PORT      of 127.0.0.1, leads to the writer (default: \$AURORA_WRITER_PORT, else 15432)
  --reader-port PORT      of 127.0.0.1, leads to a reader (default: \$AURORA_READER_PORT, else 15433)
  --user NAME             ask the database itself, as this role, who answers through a tunnel, by psql or the project's
                          Python; its password by \$PGPASSWORD or ~/.pgpass (default: \$AURORA_USER, else do not ask)
  --database NAME         which database to ask (default: \$AURORA_DATABASE, else throttling_sequencer)
  --failovers N           how many, one after another, 0 to 100 (default: 1)
  --target-instance NAME  which reader shall be the writer (default: Aurora decides); for one failover
  --timeout S             the longest to wait for anything, 1 to 3600 seconds (default: 180)
  --interval S            seconds from one look at the cluster to the next, 0.1 to 60 (default: 1)
  --keep-open             keep the tunnels open afterwards, and follow the writer, until Ctrl-C
  --dry-run               print what would be called; call nothing
  --help                  print this

Exits with 1 if anything does not work, or not in time, and with 2 if it is called in another way. Needs the AWS CLI
and its session-manager-plugin. What it needs of AWS, and what to expect, is in aws_failover_notes.md beside it.
EOF
}

refuse() {
    echo "$name: $1; see --help" >&2
    exit 2
}

fail() {
    echo "$name: $1" >&2
    exit 1
}

say() {
    printf '%s %s\n' "$(date +%H:%M:%S)" "$1"
}

check_number() {
    case $2 in
        '' | *[!0-9]* | ???????*) ;;
        *) [ "$2" -lt "$3" ] || [ "$2" -gt "$4" ] || return 0 ;;
    esac
    refuse "$1 should be a whole number from $3 to $4"
}

check_interval() {
    local pattern='^0*(0\.[1-9][0-9]*|([1-9]|[1-5][0-9])(\.[0-9]+)?|60(\.0+)?)$'
    [[ $1 =~ $pattern ]] || refuse "--interval should be a number from 0.1 to 60"
}

check_name() {
    [ -n "$2" ] || refuse "$1 is missing"
    # What is no name could be read as an option, or as more than one parameter of the tunnel.
    case $2 in -* | *[!A-Za-z0-9._:-]*) refuse "$1 should be a name, not '$2'" ;; esac
}

# Starts a program in a process group of its own, so that it can be ended as a whole: when aws alone is ended, the plugin
# that it started stays.
start() {
    set -m
    "$@" </dev/null &
    started=$!
    set +m
    groups="$groups$started "
}

# Ends what was started, and all that it started.
end() {
    local group
    for group; do disown "$group" 2>/dev/null || :; done
    end_groups "$@"
    # Not before: a signal may come meanwhile, and then they are to be ended again.
    for group; do groups="${groups/ $group / }"; done
}

# The plugin takes leave of SSM on SIGINT alone.
end_groups() {
    local signal moment
    for signal in INT TERM KILL; do
        signal_groups "-$signal" "$@" || return 0
        for ((moment = 0; moment < 50; moment++)); do
            signal_groups -0 "$@" || return 0
            sleep 0.02 || :
        done
    done
}

# Fails if there was none of them to be signalled.
signal_groups() {
    local group signal=$1 code=1
    shift
    for group; do
        ! kill "$signal" -- "-$group" 2>/dev/null || code=0
    done
    return "$code"
}

clean_up() {
    trap '' HUP INT PIPE TERM
    # The last one may have been started so shortly before that it is not among the groups.
    # shellcheck disable=SC2086 # they are numbers
    end $groups ${!-}
    [ -z "$folder" ] || rm -rf -- "$folder"
}

# Signals do not wait for its end, as they would for that of a sleep in the foreground.
pause() {
    start sleep "$1"
    wait "$started" || :
    end "$started"
}

end_after() {
    sleep "$1"
    kill -TERM -- "-$2"
}

# Runs a program for so many seconds at most. Signals do not wait for its end.
within() {
    local seconds=$1 job clock code=0
    shift
    start "$@" >"$folder/answer" 2>"$folder/error"
    job=$started
    start end_after "$seconds" "$job" >/dev/null 2>&1
    clock=$started
    wait "$job" 2>/dev/null || code=$?
    end "$clock" "$job"
    return "$code"
}

# Calls the AWS CLI, or prints how it would be called.
call() {
    set -- "$@" ${region:+--region "$region"} ${profile:+--profile "$profile"}
    if [ -n "$dry_run" ]; then
        print_call "$@"
        return
    fi
    within 60 aws --cli-connect-timeout 10 --cli-read-timeout 30 "$@"
}

print_call() {
    local argument
    printf aws
    for argument; do
        case $argument in *[!A-Za-z0-9_./:=-]*) argument="'$argument'" ;; esac
        printf ' %s' "$argument"
    done
    echo
}

# Tells on one line what went wrong, and which option may be why.
why() {
    local text
    text=$(tr -s '\n' ' ' <"$1")
    text=${text# }
    text=${text% }
    case $text in
        *DBClusterNotFoundFault*) echo "there is no such cluster: check --cluster and --region ($text)" ;;
        *InvalidInstanceID*) echo "there is no such instance: check --bastion and --region ($text)" ;;
        *TargetNotConnected*) echo "SSM does not reach the bastion: check --bastion and its agent ($text)" ;;
        *"config profile"*) echo "check --profile ($text)" ;;
        *"specify a region"* | *"connect to the endpoint"* | *"resolve endpoint"* | *"region name"*)
            echo "check --region ($text)"
            ;;
        *"locate credentials"* | *Expired* | *expired* | *InvalidClientTokenId* | *UnrecognizedClient* | *"SSO"*)
            echo "there are no credentials that AWS takes: check --profile, or log in ($text)"
            ;;
        *AccessDenied* | *UnauthorizedOperation*) echo "a right is missing, see aws_failover_notes.md ($text)" ;;
        '') echo "no answer" ;;
        *) echo "$text" ;;
    esac
}

# Asks AWS about the cluster, and shows who writes and who reads when that is news. If it fails, `unseen` tells why.
look() {
    local first second third fourth seen
    local members='DBClusterMembers[].[DBInstanceIdentifier,IsClusterWriter]'
    local query="DBClusters[0].[[[Status,Endpoint,ReaderEndpoint,Port]],$members][]"
    call rds describe-db-clusters --db-cluster-identifier "$cluster" --output text --query "$query" || {
        unseen=$(why "$folder/error")
        return 1
    }
    [ -z "$dry_run" ] || return 0
    unseen=''
    status='' writer='' readers=''
    while IFS=$'\t' read -r first second third fourth; do
        case $second in
            True) writer=$first ;;
            False) readers="$readers${readers:+, }$first" ;;
            *) status=$first hosts=("$second" "$third") database_port=$fourth ;;
        esac
    done <"$folder/answer"
    seen="the cluster $cluster is $status: writer ${writer:-none}, reader ${readers:-none}"
    [ "$seen" = "$shown" ] || say "$seen"
    shown=$seen
}

is_open() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

is_running() {
    [ -n "${tunnels[$1]}" ] && kill -0 "${tunnels[$1]}" 2>/dev/null
}

parameters() {
    printf '{"host":["%s"],"portNumber":["%s"],"localPortNumber":["%s"]}' "${hosts[$1]}" "$database_port" "${ports[$1]}"
}

# Opens a tunnel, of which there are two: 0 leads to the writer, 1 to a reader.
open_tunnel() {
    local role=$1 deadline=$((SECONDS + timeout))
    local port=${ports[$role]}
    if [ -n "${tunnels[$role]}" ]; then
        end "${tunnels[$role]}"
        tunnels[role]=''
    fi
    ! is_open "$port" || fail "port $port of 127.0.0.1 is taken: check --${roles[$role]}-port"
    start aws ssm start-session --target "$bastion" --document-name "$document" --parameters "$(parameters "$role")" \
        ${region:+--region "$region"} ${profile:+--profile "$profile"} >"$folder/${roles[$role]}" 2>&1
    tunnels[role]=$started
    # What bash knows as its job, it would say the end of.
    disown "$started" 2>/dev/null || :
    until is_open "$port"; do
        is_running "$role" || return
        [ "$SECONDS" -lt "$deadline" ] || fail "the tunnel to the ${roles[$role]} did not open within $timeout s"
        pause 0.1
    done
    say "127.0.0.1:$port leads through $bastion to ${hosts[$role]}:$database_port"
}

# Opens a tunnel again if it has ended, for as long as may be waited.
keep_tunnel() {
    local role=$1 deadline=$((SECONDS + timeout))
    ! is_running "$role" || return 0
    say "the tunnel to the ${roles[$role]} has ended: $(why "$folder/${roles[$role]}")"
    until open_tunnel "$role"; do
        [ "$SECONDS" -lt "$deadline" ] ||
            fail "the tunnel to the ${roles[$role]} does not open: $(why "$folder/${roles[$role]}")"
        pause "$interval"
    done
}

# Asks the database itself, through a tunnel, which role it has, and where it is.
ask() {
    local code=0 answer
    found='' address=''
    # The name stays that of the endpoint, so that certificates are checked, and passwords found, by it.
    PGHOST=${hosts[$1]} PGHOSTADDR=127.0.0.1 PGPORT=${ports[$1]} PGUSER=$user PGDATABASE=$database \
        PGCONNECT_TIMEOUT=5 within 10 "${client[@]}" || code=$?
    if [ "$code" -ne 0 ]; then
        case $(cat "$folder/error") in
            *authentication* | *password* | *pg_hba.conf* | *"does not exist"* | *certificate*)
                fail "the ${roles[$1]} does not let in: check --user, --database, PGPASSWORD ($(why "$folder/error"))"
                ;;
        esac
        return "$code"
    fi
    answer=$(cat "$folder/answer")
    address=${answer#* }
    case $answer in f*) found=writer ;; t*) found=reader ;; esac
}

found_instead() {
    if [ -n "$found" ]; then
        echo "it leads to the $found $address"
    else
        why "$folder/error"
    fi
}

# Waits until a tunnel leads to who has its role. A tunnel that leads elsewhere may keep an address that the endpoint's
# name had when it was opened, so it is opened again.
wait_for_role() {
    local role=$1 deadline=$((SECONDS + timeout)) misses=0
    while keep_tunnel "$role" && [ -n "$user" ]; do
        if ask "$role"; then
            [ "$found" != "${roles[$role]}" ] || break
            say "127.0.0.1:${ports[$role]} should lead to a ${roles[$role]}, and leads to the $found $address"
            misses=3
        else
            misses=$((misses + 1))
        fi
        [ "$SECONDS" -lt "$deadline" ] ||
            fail "127.0.0.1:${ports[$role]} led to no ${roles[$role]} within $timeout s: $(found_instead)"
        if [ "$misses" -ge 3 ]; then
            misses=0
            open_tunnel "$role" || :
        fi
        pause "$interval"
    done
    [ -z "$user" ] || say "127.0.0.1:${ports[$role]} is answered by the ${roles[$role]} $address"
}

# Opens both tunnels again, first the one that writes go through, and waits until each leads to where it should.
follow() {
    open_tunnel 0 || :
    wait_for_role 0
    took=$((SECONDS - asked))
    open_tunnel 1 || :
    wait_for_role 1
}

wait_until_available() {
    local deadline=$((SECONDS + timeout))
    until look && [ "$status" = available ] && [ -n "$writer" ] && [ -n "$readers" ]; do
        [ "$SECONDS" -lt "$deadline" ] ||
            fail "the cluster was not available, with a writer and a reader, within $timeout s: ${unseen:-$shown}"
        pause "$interval"
    done
}

has_moved() {
    look && [ -n "$writer" ] && [ "$writer" != "$1" ] && { [ -z "$target" ] || [ "$writer" = "$target" ]; }
}

fail_over() {
    local number=$1 before deadline moved
    wait_until_available
    before=$writer
    say "failover $number of $failovers: asked for"
    asked=$SECONDS deadline=$((SECONDS + timeout))
    call rds failover-db-cluster --db-cluster-identifier "$cluster" \
        ${target:+--target-db-instance-identifier "$target"} || fail "no failover: $(why "$folder/error")"
    until has_moved "$before"; do
        [ "$SECONDS" -lt "$deadline" ] ||
            fail "the writer did not move${target:+ to $target} within $timeout s: ${unseen:-$shown}"
        keep_tunnel 0
        keep_tunnel 1
        pause "$interval"
    done
    moved=$((SECONDS - asked))
    follow
    say "failover $number of $failovers: from $before to $writer after $moved s, its tunnel after $took s"
}

follow_for_ever() {
    local before=$writer told=''
    say "the tunnels stay open until Ctrl-C"
    while :; do
        pause "$interval"
        keep_tunnel 0
        keep_tunnel 1
        # Once the answer may stay away; whether a tunnel works does not hang on it.
        if ! look; then
            [ -n "$told" ] || say "AWS does not tell who writes, so the tunnels may not follow: $unseen"
            told=1
            continue
        fi
        [ -z "$told" ] || say "AWS tells who writes again"
        told=''
        [ -n "$writer" ] && [ "$writer" != "$before" ] || continue
        before=$writer
        asked=$SECONDS
        follow
    done
}

# Finds out what can be known to be wrong before anything is changed.
check() {
    local state
    command -v aws >/dev/null || fail "there is no aws: install the AWS CLI"
    command -v session-manager-plugin >/dev/null ||
        fail "there is no session-manager-plugin, which the AWS CLI needs for tunnels: install it"
    look || fail "the cluster $cluster is not known: $unseen"
    [ -n "$writer" ] && [ -n "$readers" ] ||
        fail "the cluster $cluster has no writer and reader, and cannot fail over: check --cluster"
    if [ -n "$target" ]; then
        [ "$target" != "$writer" ] || fail "$target is the writer already: check --target-instance"
        case ", $readers," in
            *", $target,"*) ;;
            *) fail "$target is no reader of $cluster: check --target-instance" ;;
        esac
    fi
    # What is no instance of EC2, as a managed node, only SSM knows.
    case $bastion in
        i-*)
            call ec2 describe-instances --instance-ids "$bastion" --output text \
                --query 'Reservations[].Instances[].State.Name' ||
                fail "the bastion $bastion is not known: $(why "$folder/error")"
            state=$(cat "$folder/answer")
            [ "$state" = running ] || fail "the bastion $bastion is ${state:-not there}: start it, or check --bastion"
            ;;
    esac
    [ -z "$user" ] || find_client
}

find_client() {
    local python
    python="$(dirname -- "$0")/../.venv/bin/python"
    if command -v psql >/dev/null; then
        client=(psql -XAtqw -F ' ' -c 'SELECT pg_is_in_recovery(), inet_server_addr()')
    elif "$python" -c 'import psycopg' 2>/dev/null; then
        client=("$python" -c 'import psycopg
with psycopg.connect() as connection:
    row = connection.execute("SELECT pg_is_in_recovery(), host(inet_server_addr())").fetchone()
    print("ft"[row[0]], row[1])')
    else
        fail "there is neither psql nor the project's Python to ask by: install one, or leave out --user"
    fi
}

print_calls() {
    local role number
    look
    case $bastion in i-*) call ec2 describe-instances --instance-ids "$bastion" ;; esac
    hosts=('<the endpoint>' '<the reader endpoint>') database_port='<its port>'
    for role in 0 1; do
        call ssm start-session --target "$bastion" --document-name "$document" \
            --parameters "$(parameters "$role")"
    done
    for ((number = 1; number <= failovers; number++)); do
        call rds failover-db-cluster --db-cluster-identifier "$cluster" \
            ${target:+--target-db-instance-identifier "$target"}
    done
}

name=${0##*/} document=AWS-StartPortForwardingSessionToRemoteHost
cluster=${AURORA_CLUSTER-} bastion=${AURORA_BASTION-} region='' profile='' user=${AURORA_USER-} target='' failovers=1
database=${AURORA_DATABASE:-throttling_sequencer} timeout=180 interval=1 keep_open='' dry_run=''
roles=(writer reader) ports=("${AURORA_WRITER_PORT:-15432}" "${AURORA_READER_PORT:-15433}") tunnels=('' '') hosts=('' '')
groups=' ' folder='' shown='' unseen='' status='' writer='' readers='' asked=0 took=0
while [ $# -gt 0 ]; do
    case $1 in
        --help) usage && exit ;;
        --keep-open) keep_open=1 ;;
        --dry-run) dry_run=1 ;;
        --cluster | --bastion | --region | --profile | --writer-port | --reader-port | --user | --database | \
            --failovers | --target-instance | --timeout | --interval)
            [ -n "${2-}" ] || refuse "$1 needs a value"
            case $1 in
                --cluster) cluster=$2 ;;
                --bastion) bastion=$2 ;;
                --region) region=$2 ;;
                --profile) profile=$2 ;;
                --writer-port) ports[0]=$2 ;;
                --reader-port) ports[1]=$2 ;;
                --user) user=$2 ;;
                --database) database=$2 ;;
                --failovers) failovers=$2 ;;
                --target-instance) target=$2 ;;
                --timeout) timeout=$2 ;;
                --interval) interval=$2 ;;
            esac
            shift
            ;;
        *) refuse "there is no option $1" ;;
    esac
    shift
done
check_name --cluster "$cluster"
check_name --bastion "$bastion"
[ -z "$target" ] || check_name --target-instance "$target"
check_number --writer-port "${ports[0]}" 1 65535
check_number --reader-port "${ports[1]}" 1 65535
check_number --failovers "$failovers" 0 100
check_number --timeout "$timeout" 1 3600
check_interval "$interval"
# Without its base, a number that begins with 0 would be read as an octal one.
ports=("$((10#${ports[0]}))" "$((10#${ports[1]}))") failovers=$((10#$failovers)) timeout=$((10#$timeout))
[ "${ports[0]}" != "${ports[1]}" ] || refuse "--writer-port and --reader-port should differ"
[ -z "$target" ] || [ "$failovers" -eq 1 ] || refuse "--target-instance is for one failover"

if [ -n "$dry_run" ]; then
    print_calls
    exit
fi
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE
trap 'exit 143' TERM
folder=$(mktemp -d)
# Its answers are for this script: no pager, and no questions.
export AWS_PAGER='' AWS_CLI_AUTO_PROMPT=off
check
for role in 0 1; do
    open_tunnel "$role" || fail "the tunnel to the ${roles[$role]} does not open: $(why "$folder/${roles[$role]}")"
    wait_for_role "$role"
done
for ((number = 1; number <= failovers; number++)); do fail_over "$number"; done
[ -z "$keep_open" ] || follow_for_ever
