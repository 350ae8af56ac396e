#!/usr/bin/env bash
# Builds the kernel and the initial RAM disk of the OpenZFS test machine, and prints the directory that holds them.
#
#   build.sh            use the newest finished build; make one only when there is none
#   build.sh --update   ask the mirror for newer packages, and build when there are any
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
cache=${PANDO_VM_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/pando/openzfs-vm}
# Raise this when something else is packed: builds are kept apart by it, so that checkouts of different age share the cache.
recipe=3

say() { printf '%s\n' "build.sh: $*" >&2; }
die() { say "$@"; exit 1; }

update=no
case ${1-} in
  '') ;;
  --update) update=yes ;;
  *) die "usage: build.sh [--update]" ;;
esac

mkdir -p -- "$cache"
cache=$(cd -- "$cache" && pwd -P)
# The kernel's makefiles take a space in a path for its end.
[[ $cache != *[[:space:]]* ]] || die "the cache directory must not have white space in its name: $cache"
current=$cache/current-$recipe

show_current() {
  [[ -s $current/initramfs.cpio && -s $current/vmlinuz ]] || return 1
  readlink -f -- "$current"
}

[[ $update == yes ]] || ! show_current || exit 0

# One build at a time; whoever waited finds the other's result.
exec 9>"$cache/lock"
flock 9
[[ $update == yes ]] || ! show_current || exit 0

[[ $(dpkg --print-architecture) == amd64 ]] || die "needs an amd64 Debian host"
missing=()
for tool in apt-get dpkg-deb gcc-12 make bc cpio strip; do
  command -v "$tool" >/dev/null || missing+=("$tool")
done
((${#missing[@]} == 0)) || die "missing: ${missing[*]} (packages: build-essential bc cpio)"

# The lock makes it safe to clear what an interrupted build left behind.
rm -rf -- "$cache"/building.*
work=$(mktemp -d -- "$cache/building.XXXXXX")
trap 'rm -rf -- "$work"' EXIT
# apt's child processes and the packed files must be readable whatever the umask is.
umask 022
chmod 755 -- "$work"

# ---- packages, through an apt state of our own ------------------------------------------------------------------

# shellcheck source=/dev/null
release=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:?}")
[[ $release == bookworm ]] || die "the packages are chosen for Debian 12, this is $release"

# The host knows a mirror that it can reach; take that one. The security archive is optional.
# shellcheck disable=SC2016  # apt expands these, not the shell
targets=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages')
mirror=$(awk -v r="$release" '$2 == r && $3 == "main" { print $1; exit }' <<<"$targets")
security=$(awk -v r="$release-security" '$2 == r && $3 == "main" { print $1; exit }' <<<"$targets")
[[ -n $mirror ]] || die "no source for $release main in the host's apt configuration"

keyring=/usr/share/keyrings/debian-archive-keyring.gpg
apt_dir=$work/apt
mkdir -p -- "$apt_dir"/{lists/partial,archives/partial,debs}
{
  printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$mirror" "$release"
  printf 'deb [signed-by=%s] %s %s-backports main contrib\n' "$keyring" "$mirror" "$release"
  [[ -z $security ]] || printf 'deb [signed-by=%s] %s %s-security main\n' "$keyring" "$security" "$release"
} >"$apt_dir/sources.list"
# An empty package status: every dependency counts as missing and is fetched, so nothing is taken from the host.
: >"$apt_dir/status"

apt_options=(
  -qq
  -o "Dir::Etc::sourcelist=$apt_dir/sources.list" -o Dir::Etc::sourceparts=/dev/null
  -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
  -o "Dir::State=$apt_dir" -o "Dir::State::lists=$apt_dir/lists" -o "Dir::State::status=$apt_dir/status"
  -o "Dir::Cache=$apt_dir" -o "Dir::Cache::archives=$apt_dir/archives"
  -o "Dir::Log=$apt_dir"
  -o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none -o Acquire::Retries=3
)

say "reading package lists"
apt-get "${apt_options[@]}" update >&2

kernel=$(apt-cache "${apt_options[@]}" depends --important linux-image-cloud-amd64 |
  awk '$1 == "Depends:" && $2 ~ /^linux-image-[0-9]/ { sub(/^linux-image-/, "", $2); print $2; exit }')
[[ -n $kernel ]] || die "cannot tell the version of linux-image-cloud-amd64"
common=${kernel%-cloud-amd64}-common
zfs_package=$(apt-cache "${apt_options[@]}" -o "APT::Default-Release=$release-backports" policy zfs-dkms |
  awk '$1 == "Candidate:" { print $2 }')
[[ -n $zfs_package && $zfs_package != '(none)' ]] || die "$mirror has no zfs-dkms in $release-backports contrib"
zfs_version=${zfs_package%-*}

final=$cache/$kernel-$zfs_version-$recipe
if [[ -d $final ]]; then
  say "up to date"
else
  say "fetching kernel $kernel and OpenZFS $zfs_version"
  # The compiler's and kbuild's package names carry versions, which the headers' dependencies know.
  header_parts=$(apt-cache "${apt_options[@]}" depends --important "linux-headers-$kernel" "linux-headers-$common" |
    awk '$1 == "Depends:" && $2 ~ /^linux-(headers|kbuild|compiler)-/ { print $2 }' | sort -u)
  mapfile -t headers <<<"$header_parts"
  (
    cd -- "$apt_dir/debs"
    apt-get "${apt_options[@]}" -o "APT::Default-Release=$release-backports" download \
      zfs-dkms zfsutils-linux >&2
    apt-get "${apt_options[@]}" download "linux-image-$kernel" "linux-headers-$kernel" "${headers[@]}" >&2
  )
  # zfsutils-linux itself depends on Python, which zfs and zpool do not need: only its libraries' closure is fetched.
  apt-get "${apt_options[@]}" -t "$release-backports" install -y --download-only --no-install-recommends \
    libzfs6linux libzpool6linux libnvpair3linux libuutil3linux libzfsbootenv1linux >&2
  apt-get "${apt_options[@]}" install -y --download-only --no-install-recommends \
    busybox-static libgcc-s1 openssh-server >&2

  say "unpacking"
  tree=$work/tree
  mkdir -p -- "$tree"
  for deb in "$apt_dir"/debs/*.deb "$apt_dir"/archives/*.deb; do
    dpkg-deb -x "$deb" "$tree"
  done

  # ---- kernel modules -------------------------------------------------------------------------------------------

  # Kept apart from the rest: they take minutes, and do not change when only the packing does.
  built=$cache/modules-$kernel-$zfs_version
  if [[ ! -d $built ]]; then
    # The header packages name each other by absolute path; point those into the unpacked tree.
    headers_dir=$tree/usr/src/linux-headers-$kernel
    common_dir=$tree/usr/src/linux-headers-$common
    find "$tree/usr/src" "$tree/lib/modules/$kernel" -type l -print0 | while IFS= read -r -d '' link; do
      target=$(readlink -- "$link")
      [[ $target != /usr/* ]] || ln -sfn -- "$tree$target" "$link"
    done
    grep -rlIZ --include='Makefile' --include='.kernelvariables' -e '/usr/src/linux-headers-' \
      "$headers_dir" "$common_dir" | xargs -0r sed -i "s#/usr/src/linux-headers-#$tree/usr/src/linux-headers-#g"

    zfs_source=$(find "$tree/usr/src" -maxdepth 1 -type d -name 'zfs-*' -print -quit)
    [[ -n $zfs_source ]] || die "zfs-dkms brought no source"
    say "building the modules (minutes); log: $cache/build.log"
    if ! (
      cd -- "$zfs_source"
      ./configure --with-config=kernel --with-linux="$common_dir" --with-linux-obj="$headers_dir"
      make -j"$(nproc)"
    ) >"$cache/build.log" 2>&1 9>&-; then
      tail -n 30 -- "$cache/build.log" >&2
      die "the modules did not build"
    fi
    mkdir -- "$work/modules"
    # Debug information makes zfs.ko ten times its size.
    find "$zfs_source/module" -name '*.ko' -exec strip -g {} + -exec cp -t "$work/modules" -- {} +
    mv -T -- "$work/modules" "$built"
  fi

  # ---- initial RAM disk -----------------------------------------------------------------------------------------

  root=$work/root
  mkdir -p -- "$root"/{bin,sbin,dev,etc/ssh,etc/zfs,home/user,lib,lib64,modules,mnt,proc,root/.ssh,run,sys,tmp,usr/bin,usr/sbin,var/run}
  chmod 700 -- "$root/root" "$root/root/.ssh"
  chmod 1777 -- "$root/tmp"

  # Load order. Everything else that these need is built into the cloud kernel.
  modules=(virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk
    failover net_failover virtio_net loop spl zfs)
  for module in "${modules[@]}"; do
    file=$(find "$built" "$tree/lib/modules/$kernel" -name "$module.ko" -print -quit)
    [[ -n $file ]] || die "no module $module"
    cp -- "$file" "$root/modules/$module.ko"
    printf '%s\n' "$module" >>"$root/modules/order"
  done

  cp -- "$tree/bin/busybox" "$root/bin/busybox"
  mapfile -t applets < <("$root/bin/busybox" --list-full)
  for applet in "${applets[@]}"; do
    mkdir -p -- "$root/$(dirname -- "$applet")"
    # The list names busybox itself, too.
    [[ -e $root/$applet ]] || ln -s -- /bin/busybox "$root/$applet"
  done

  programs=(sbin/zfs sbin/zpool sbin/zdb sbin/zstream usr/sbin/sshd usr/bin/ssh-keygen)
  libraries=$tree/lib/x86_64-linux-gnu:$tree/usr/lib/x86_64-linux-gnu
  loader=lib64/ld-linux-x86-64.so.2
  # zfs aborts in pthread_cancel when it cannot load libgcc_s, which ldd does not name.
  extra_libraries=(libgcc_s.so.1)
  mkdir -p -- "$root/lib/x86_64-linux-gnu"
  cp -L -- "$tree/$loader" "$root/$loader"
  for program in "${programs[@]}"; do
    [[ -f $tree/$program ]] || die "no program $program"
    rm -f -- "$root/$program"
    cp -L -- "$tree/$program" "$root/$program"
    # Asking the unpacked loader, with the unpacked libraries, keeps the host's own libraries out.
    listing=$("$tree/$loader" --library-path "$libraries" --list "$tree/$program")
    awk -v tree="$tree/" '$2 == "=>" && index($3, tree) == 1 { print $3 }' <<<"$listing" >>"$work/libraries"
    ! awk '$2 == "=>"' <<<"$listing" | grep -vF -- "=> $tree/" | grep -vE 'ld-linux' >&2 ||
      die "$program needs a library that was not fetched"
  done
  for library in "${extra_libraries[@]}"; do
    find "$tree/lib" "$tree/usr/lib" -name "$library" -print -quit >>"$work/libraries"
  done
  sort -u -- "$work/libraries" | while IFS= read -r library; do
    cp -L -- "$library" "$root/lib/x86_64-linux-gnu/"
  done
  # The features that `zpool create -o compatibility=` knows.
  if [[ -d $tree/usr/share/zfs ]]; then
    mkdir -p -- "$root/usr/share"
    cp -a -- "$tree/usr/share/zfs" "$root/usr/share/"
  fi

  cp -- "$here/init" "$root/init"
  chmod 755 -- "$root/init"
  cp -- "$here/sshd_config" "$root/etc/ssh/sshd_config"
  # sshd leaves root for the user of its own name while it talks to strangers.
  printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'sshd:x:100:100:sshd:/run/sshd:/bin/false' \
    'user:x:1000:1000:user:/home/user:/bin/sh' >"$root/etc/passwd"
  printf '%s\n' 'root:x:0:' 'sshd:x:100:' 'user:x:1000:' >"$root/etc/group"
  printf 'root::19000:0:99999:7:::\nuser::19000:0:99999:7:::\n' >"$root/etc/shadow"
  printf 'passwd: files\ngroup: files\nhosts: files\n' >"$root/etc/nsswitch.conf"
  printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
  printf '/bin/sh\n' >"$root/etc/shells"
  # zfs keeps the pool's host id here; without it every boot would invent another.
  printf '\x01\x02\x03\x04' >"$root/etc/hostid"
  ln -sfn -- /proc/self/mounts "$root/etc/mtab"
  chown 1000:1000 -- "$root/home/user" 2>/dev/null || true

  out=$work/out
  mkdir -p -- "$out"
  # Not compressed: unpacking in an emulated processor costs more than reading.
  (cd -- "$root" && find . -print0 | LC_ALL=C sort -z | cpio --null --create --format=newc --owner=+0:+0 --quiet) \
    >"$out/initramfs.cpio"
  cp -- "$tree/boot/vmlinuz-$kernel" "$out/vmlinuz"
  printf '%s\n' "$kernel" >"$out/kernel-version"
  printf '%s\n' "$zfs_package" >"$out/zfs-version"
  chmod 644 -- "$out"/*

  mv -T -- "$out" "$final"
fi

# Replace the link in one step, so that a reader never finds it missing.
ln -sfn -- "$(basename -- "$final")" "$work/current"
mv -T -- "$work/current" "$current"
show_current
