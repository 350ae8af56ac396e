#!/usr/bin/env bash
# Starts one node of docker-compose.yml: zfs-fuse, a pool in the volume, `pando serve`, and the introduction to the other
# node. Every step can be repeated: a container that is started again finds what it made.
set -euo pipefail

peer=${PANDO_PEER:?the host name of the other node}
role=${PANDO_ROLE:?owner or mirror}
pool=tank
pool_file=/var/lib/pando/$pool.img
pool_size=${PANDO_POOL_SIZE:-4G}
port=7420
introductions=/introductions

zfs_pid=
serve_pid=

say() { echo "$(hostname): $*"; }

# Waits, at most a minute, until a command succeeds; $1 says for people what is awaited.
await() {
  local what=$1 attempt
  shift
  for ((attempt = 0; attempt < 600; attempt++)); do
    if "$@" >/dev/null 2>&1; then return; fi
    sleep 0.1
  done
  say "gave up waiting for $what" >&2
  exit 1
}

# Whether a listing of pando already names something.
lists() {
  local wanted=$1
  shift
  pando "$@" --json | grep -qF -- "$wanted"
}

stop() {
  trap - TERM INT EXIT
  if [[ -n $serve_pid ]] && kill -TERM "$serve_pid" 2>/dev/null; then wait "$serve_pid" || true; fi
  if [[ -n $zfs_pid ]]; then
    zpool export "$pool" || true
    kill -TERM "$zfs_pid" 2>/dev/null || true
    wait "$zfs_pid" || true
  fi
}

start_zfs() {
  [[ -e /dev/fuse ]] || mknod /dev/fuse c 10 229
  # What an earlier run left behind: this container's own daemon is the only one in its namespaces.
  rm -rf /run/zfs /var/lock/zfs /var/lib/zfs/zpool.cache
  mkdir -p /run/zfs /var/lock/zfs
  zfs-fuse --no-daemon &
  zfs_pid=$!
  await 'zfs-fuse' zpool list
}

open_pool() {
  if [[ -e $pool_file ]]; then
    zpool import -d "$(dirname "$pool_file")" "$pool"
  else
    truncate -s "$pool_size" "$pool_file"
    zpool create -m "/$pool" "$pool" "$pool_file"
  fi
  if [[ $role == owner ]] && ! zfs list "$pool/images" >/dev/null 2>&1; then zfs create "$pool/images"; fi
}

# Tells the other node who we are, and learns who it is.
introduce() {
  pando id >"$introductions/.$(hostname)"
  mv "$introductions/.$(hostname)" "$introductions/$(hostname)"
  await "$peer to introduce itself" test -s "$introductions/$peer"
  local peer_id
  peer_id=$(<"$introductions/$peer")
  lists "$peer_id" peer ls || pando peer add "$peer" "$peer_id" --address "$peer:$port" --share '*'
}

share_images() {
  if [[ $role == owner ]]; then
    lists images tree ls || pando tree add images "$pool/images"
  else
    lists images mirror ls || pando mirror add images --from "$peer" --into "$pool/mirror"
  fi
}

trap 'stop; exit 0' TERM INT
trap stop EXIT

start_zfs
open_pool
pando serve --config /etc/pando/pando.yaml &
serve_pid=$!
await 'pando serve' pando status
introduce
share_images
say "ready"
wait "$serve_pid"
