#!/bin/sh
# Runs a node: as the primary if it is the one that the file `writer` of the fence names, else as a standby of that one.
# Never are there two primaries: who is not named waits for who is, and is rewound or copied anew before it starts.
#   NODE, PEER      this node's name and the other's; both are hosts too
#   FIRST           the node that makes the data where there is none yet
#   PASSWORD        of the role postgres, and of the role by which a standby follows
#   DATABASE        the database to make
#   PORT, PEER_HOST, PEER_PORT, LISTEN, FENCE    where that is not 5432, PEER, 5432, every address, /fence
set -eu

: "${NODE:?}" "${PEER:?}" "${FIRST:?}" "${PASSWORD:?}" "${DATABASE:?}" "${PGDATA:?}"
# psql, pg_rewind, pg_basebackup and the server that follows read it from here: it stands in no list of processes.
export PGPASSWORD="$PASSWORD" PGCONNECT_TIMEOUT=5
port=${PORT:-5432} peer_host=${PEER_HOST:-$PEER} peer_port=${PEER_PORT:-5432} fence=${FENCE:-/fence}

if [ "$(id -u)" = 0 ] && command -v gosu >/dev/null; then
    # Beside the data lies what becomes it, so its folder has to be the server's too.
    mkdir -p "$PGDATA"
    chown postgres:postgres "$(dirname "$PGDATA")"
    chown -R postgres:postgres "$PGDATA" "$fence"
    exec gosu postgres /bin/sh "$0"
fi

say() {
    echo "node.sh: $NODE $1"
}

writer() {
    cat "$fence/writer" 2>/dev/null || true
}

ask() {
    psql --no-psqlrc --quiet --tuples-only --no-align \
        --host "$1" --port "$2" --username postgres --dbname postgres --command "$3" 2>/dev/null
}

ask_peer() {
    ask "$peer_host" "$peer_port" "$1"
}

ask_self() {
    ask 127.0.0.1 "$port" "$1"
}

# The role by which HAProxy asks who is the primary needs no password, and may do nothing but ask.
make_data() {
    say "makes the data"
    umask 077
    rm -rf "$PGDATA.new"
    printf '%s\n' "$PASSWORD" >"$PGDATA.password"
    initdb --pgdata "$PGDATA.new" --username postgres --pwfile "$PGDATA.password" --auth scram-sha-256 \
        --encoding UTF8 --locale C --data-checksums >/dev/null
    rm "$PGDATA.password"
    cat >"$PGDATA.new/pg_hba.conf" <<HBA
host postgres haproxy_check samenet trust
host replication replicator samenet scram-sha-256
host all postgres all scram-sha-256
HBA
    cat >>"$PGDATA.new/postgresql.conf" <<CONF
unix_socket_directories = ''
wal_log_hints = on
wal_keep_size = 256MB
hot_standby = on
synchronous_standby_names = ''
CONF
    postgres --single -D "$PGDATA.new" postgres >/dev/null <<SQL
CREATE ROLE haproxy_check LOGIN CONNECTION LIMIT 20
CREATE ROLE replicator LOGIN REPLICATION PASSWORD '$PASSWORD'
CREATE DATABASE "$DATABASE"
SQL
    rm -rf "$PGDATA"
    mv "$PGDATA.new" "$PGDATA"
}

# pg_rewind reads what the primary has as its superuser; the data must have been shut down or be recoverable.
rewind() {
    pg_rewind --target-pgdata "$PGDATA" \
        --source-server "host=$peer_host port=$peer_port user=postgres dbname=postgres"
}

copy() {
    say "is copied from $PEER"
    find "$PGDATA" -mindepth 1 -delete 2>/dev/null || true
    mkdir -p "$PGDATA"
    chmod 700 "$PGDATA"
    pg_basebackup --pgdata "$PGDATA" --wal-method stream --checkpoint fast \
        --dbname "host=$peer_host port=$peer_port user=replicator"
}

follow() {
    until [ "$(ask_peer 'SELECT pg_is_in_recovery()')" = f ]; do
        say "waits for $PEER to be the primary"
        sleep 1
    done
    if ! [ -f "$PGDATA/PG_VERSION" ] || ! rewind; then
        # Whatever a rewind that failed left must never be started.
        copy
    fi
    touch "$PGDATA/standby.signal"
}

# From when a standby follows, who acknowledges a write has it on both nodes. Until then a primary would wait for nobody.
be_waited_for() {
    until [ "$(ask_peer "SELECT count(*) FROM pg_stat_replication WHERE application_name = '$NODE'")" = 1 ]; do
        sleep 0.2
    done
    ask_peer "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 ($NODE)'"
    ask_peer "SELECT pg_reload_conf()"
    say "is waited for by $PEER"
}

# Named, and then not promoted: whoever was about to do it died. The peer waits for this node, which has nobody to follow.
be_promoted() {
    until role=$(ask_self 'SELECT pg_is_in_recovery()') && [ -n "$role" ]; do
        sleep 0.2
    done
    [ "$role" = t ] && [ "$(ask_peer 'SELECT pg_is_in_recovery()')" != f ] || return 0
    ask_self "ALTER SYSTEM SET synchronous_standby_names = ''"
    ask_self "SELECT pg_reload_conf()"
    ask_self "SELECT pg_promote(true, 60)"
    say "is promoted: it was named and still a standby"
}

if [ -z "$(writer)" ] && [ "$NODE" = "$FIRST" ]; then
    [ -f "$PGDATA/PG_VERSION" ] || make_data
    echo "$NODE" >"$fence/writer.new"
    mv "$fence/writer.new" "$fence/writer"
fi
until [ -n "$(writer)" ]; do
    say "waits for $FIRST to make the data"
    sleep 1
done
if [ "$(writer)" != "$NODE" ] && ! [ -f "$PGDATA/standby.signal" ]; then
    follow
fi
if [ "$(writer)" != "$NODE" ]; then
    be_waited_for >&2 &
elif [ -f "$PGDATA/standby.signal" ]; then
    be_promoted >&2 &
fi
say "starts; the writer is $(writer)"
exec postgres -D "$PGDATA" -c "listen_addresses=${LISTEN:-*}" -c "port=$port" \
    -c "primary_conninfo=host=$peer_host port=$peer_port user=replicator application_name=$NODE"
