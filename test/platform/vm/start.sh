#!/usr/bin/env bash
# Boots the OpenZFS test machine in the background and prints one line of JSON once ssh answers:
#   {"pid":…,"port":…,"runDirectory":"…","ssh":["ssh",…,"root@127.0.0.1"]}
# Everything else goes to stderr. Memory: PANDO_VM_MEMORY (default 2G).
#
#   start.sh               end it with stop.sh RUN_DIRECTORY
#   start.sh --until PID   it also ends by itself, soon after that process has gone, however that came about
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# Seconds. It takes a dozen; a busy machine without acceleration may need many times that.
boot_limit=300

say() { printf '%s\n' "start.sh: $*" >&2; }
die() { say "$@"; exit 1; }

owner=
case ${1-} in
  '') ;;
  --until) owner=${2-} ;;
  *) die "usage: start.sh [--until PID]" ;;
esac
[[ $# == 0 || $owner =~ ^[1-9][0-9]*$ ]] || die "--until wants the id of a process"

missing=()
for tool in qemu-system-x86_64 cpio ssh ssh-keygen; do
  command -v "$tool" >/dev/null || missing+=("$tool")
done
((${#missing[@]} == 0)) || die "missing: ${missing[*]} (packages: qemu-system-x86 cpio openssh-client)"

build=$("$here/build.sh")
run=$(mktemp -d "${TMPDIR:-/tmp}/pando-vm.XXXXXX")
run=$(cd -- "$run" && pwd -P)
pid=

# Until the machine is handed over, nothing of it may stay behind.
give_up() {
  local status=$?
  trap - EXIT
  if [[ $status != 0 ]]; then
    [[ ! -s $run/console.log ]] || tail -n 20 -- "$run/console.log" >&2
    ssh -o "ControlPath=\"$run/ssh\"" -O exit root@127.0.0.1 2>/dev/null || true
    [[ -n $pid ]] || pid=$(cat -- "$run/qemu.pid" 2>/dev/null) || true
    [[ -z $pid ]] || kill -KILL "$pid" 2>/dev/null || true
    rm -rf -- "$run"
  fi
  exit "$status"
}
trap give_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# The kernel unpacks archives that follow each other: the run's own files come after the shared ones.
ssh-keygen -q -t ed25519 -N '' -C pando-vm -f "$run/key"
mkdir -p -- "$run/overlay/root/.ssh"
chmod 700 -- "$run/overlay" "$run/overlay/root" "$run/overlay/root/.ssh"
cp -- "$run/key.pub" "$run/overlay/root/.ssh/authorized_keys"
chmod 600 -- "$run/overlay/root/.ssh/authorized_keys"
cp -- "$build/initramfs.cpio" "$run/initramfs.cpio"
(cd -- "$run/overlay" && find root -print0 | cpio --null --create --format=newc --owner=+0:+0 --quiet) \
  >>"$run/initramfs.cpio"
rm -rf -- "$run/overlay"

# qemu itself takes the port, so two starts at once cannot both believe in it; below the range for outgoing calls.
# norandmaps: qemu translates code for the address it lies at. At the same one in each process it does so once, which halves the
# time of a command.
port=
for ((attempt = 0; attempt < 20; attempt++)); do
  candidate=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
  if qemu-system-x86_64 \
    -name pando-openzfs -accel tcg,thread=multi -cpu max -smp 2 -m "${PANDO_VM_MEMORY:-2G}" \
    -nodefaults -no-user-config -display none -monitor none -no-reboot \
    -serial "file:$run/console.log" \
    -netdev "user,id=n,hostfwd=tcp:127.0.0.1:$candidate-:22" -device virtio-net-pci,netdev=n,romfile= \
    -kernel "$build/vmlinuz" -initrd "$run/initramfs.cpio" -append "console=ttyS0 quiet panic=-1 norandmaps" \
    -daemonize -pidfile "$run/qemu.pid" </dev/null >/dev/null 2>"$run/qemu.err"; then
    port=$candidate
    break
  fi
  grep -q 'host forwarding rule' "$run/qemu.err" || { cat -- "$run/qemu.err" >&2; die "qemu did not start"; }
done
[[ -n $port ]] || die "found no free port"
pid=$(<"$run/qemu.pid")

# Host keys are made anew in every machine and the connection never leaves this host: nothing to compare them with.
ssh_command=(
  ssh -p "$port" -i "$run/key" -F none
  -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR
  -o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes -o ConnectTimeout=30
  -o ControlMaster=auto -o "ControlPath=\"$run/ssh\"" -o ControlPersist=yes
  root@127.0.0.1
)

# An explicit background master (-N -f): a master started on the way by a later command could keep that command's
# stderr open, and its caller would wait for an end of file that never comes.
deadline=$((SECONDS + boot_limit))
until ssh -N -f -o ConnectTimeout=5 -o ControlMaster=yes "${ssh_command[@]:1}" </dev/null >/dev/null 2>&1; do
  kill -0 "$pid" 2>/dev/null || die "the machine ended while booting"
  ((SECONDS < deadline)) || die "no answer after $boot_limit s"
  sleep 0.2
done
# ssh comes up after the modules, so there is nothing more to wait for.
"${ssh_command[@]}" zpool list </dev/null >/dev/null || die "OpenZFS did not load"
# qemu has read it; without reboots it is not needed again.
rm -f -- "$run/initramfs.cpio"

quote() {
  local text=${1//\\/\\\\}
  printf '"%s"' "${text//\"/\\\"}"
}
words=
for word in "${ssh_command[@]}"; do
  words+=${words:+,}$(quote "$word")
done
printf '{"pid":%s,"port":%s,"runDirectory":%s,"ssh":[%s]}\n' "$pid" "$port" "$(quote "$run")" "$words" \
  >"$run/machine.json"
if [[ -n $owner ]]; then
  # In a session of its own, so that what ends the owner's process group does not reach it.
  # shellcheck disable=SC2016  # its own parameters
  setsid -- bash -c 'while kill -0 "$1" && [[ -d $3 ]]; do sleep 1; done; exec "$2/stop.sh" "$3"' \
    until-gone "$owner" "$here" "$run" </dev/null >/dev/null 2>&1 &
fi
cat -- "$run/machine.json"
