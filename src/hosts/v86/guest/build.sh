#!/usr/bin/env bash
# Builds the 32-bit Debian guest of `npm run guest`: kernel, initramfs and BIOS, all out of Debian packages.
#
#   build.sh [--force] [OUT]
#
# OUT (default: .cache/guest at the root of the repository) receives
#   bzimage     the kernel of linux-image-686: 32 bits, as v86 is
#   initrd      busybox, the drivers named below with what they need, and `init` beside this script
#   bios.bin    SeaBIOS, 128 KiB
#   guest.info  what they were made of
# and keeps the packages in OUT/packages. Nothing is done when OUT is up to date with this script and with `init`.
#
# Runs on Debian, needs no root and installs nothing: apt works on lists of its own below OUT, so that the machine need
# not know the i386 architecture.
#
# Exit status: 0 built or up to date, 1 failed, 2 wrong usage or a tool is missing.
set -euo pipefail
export LC_ALL=C

# The drivers of the guest. What they depend on comes along; built-in ones are left out with a word.
drivers="virtio_pci virtio_net realtek r8169 8139cp 8139too"
# Not loaded until `load NAME` asks for them.
on_demand="8021q pktgen ne2k_pci"

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
say() { printf 'guest: %s\n' "$*" >&2; }
fail() { say "$2"; exit "$1"; }

force=no out=
for word in "$@"; do
  case $word in
    -h | --help) sed -n '2,/^# Exit/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    --force) force=yes ;;
    -*) fail 2 "unknown option $word (--help tells the usage)" ;;
    *) [ -z "$out" ] || fail 2 "one folder at most (--help tells the usage)"; out=$word ;;
  esac
done
[ -n "$out" ] || out=$(cd "$here/../../../.." && pwd)/.cache/guest

missing=
for tool in apt-get apt-cache dpkg-deb xz sha256sum; do
  command -v "$tool" >/dev/null || missing="$missing $tool"
done
[ -z "$missing" ] || fail 2 "this needs a Debian machine; missing here:$missing"

# --- up to date? ---------------------------------------------------------------------------------------------------
stamp=$(cat "$here/build.sh" "$here/init" | sha256sum | cut -d' ' -f1)
fresh() {
  local image
  [ "$force" = no ] && [ "$(cat "$out/stamp" 2>/dev/null)" = "$stamp" ] || return 1
  for image in bzimage initrd bios.bin guest.info; do [ -s "$out/$image" ] || return 1; done
}
if fresh; then say "up to date in $out"; exit 0; fi

mkdir -p "$out/packages" "$out/apt/lists/partial" "$out/apt/cache/archives/partial"
out=$(cd "$out" && pwd)
printf '*\n' >"$out/.gitignore" # whatever folder this is, nothing of it belongs into a repository
rm -f "$out/stamp"
work=$(mktemp -d "$out/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

# --- packages ------------------------------------------------------------------------------------------------------
# The machine's sources and keys, but lists, cache and architecture of our own.
: >"$out/apt/status"
apt_options=(
  -qq -o APT::Architecture=i386 -o APT::Architectures=i386 -o APT::Sandbox::User="$(id -un)"
  -o Acquire::Languages=none -o Dir::State="$out/apt" -o Dir::State::lists="$out/apt/lists"
  -o Dir::State::status="$out/apt/status" -o Dir::Cache="$out/apt/cache"
)
update_lists() {
  [ ! -e "$work/updated" ] || return 0
  say "reading Debian's package lists for i386"
  # One list that cannot be had does no harm as long as the packages are found in the others.
  apt-get "${apt_options[@]}" update >"$work/update.log" 2>&1 || true
  touch "$work/updated"
}
newest() { find "$out/packages" -name "$1" -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d' ' -f2-; }

package() { # NAME GLOB -> its .deb on standard output, from OUT/packages or from the archive
  local name=$1 deb
  deb=$(newest "$2")
  if [ -z "$deb" ]; then
    update_lists
    if [ "$name" = linux-image-686 ]; then # a meta package: it depends on the kernel that is current
      name=$(apt-cache "${apt_options[@]}" depends "$name" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*-686\)$/\1/p' | head -n 1)
    fi
    say "downloading ${name:-the kernel}"
    if [ -z "$name" ] || ! (cd "$out/packages" && apt-get "${apt_options[@]}" download "$name" >"$work/download.log" 2>&1); then
      cat "$work/update.log" "$work/download.log" >&2 2>/dev/null || true
      fail 1 "cannot download ${name:-linux-image-686}: does this machine's apt know a Debian archive?"
    fi
    deb=$(newest "$2")
  fi
  [ -n "$deb" ] || fail 1 "no package file for $1"
  printf '%s\n' "$deb"
}
[ "$force" = no ] || rm -f "$out"/packages/*.deb
kernel_deb=$(package linux-image-686 'linux-image-[0-9]*-686_*_i386.deb')
busybox_deb=$(package busybox-static 'busybox-static_*_i386.deb')
seabios_deb=$(package seabios 'seabios_*_all.deb')
ethtool_deb=$(package ethtool 'ethtool_*_i386.deb')
libmnl_deb=$(package libmnl0 'libmnl0_*_i386.deb')
libc_deb=$(package libc6 'libc6_*_i386.deb')

say "unpacking"
mkdir "$work/root"
for deb in "$ethtool_deb" "$libmnl_deb" "$libc_deb"; do dpkg-deb -x "$deb" "$work/ethtool"; done
dpkg-deb -x "$kernel_deb" "$work/kernel"
dpkg-deb -x "$busybox_deb" "$work/busybox"
dpkg-deb -x "$seabios_deb" "$work/seabios"
vmlinuz=$(find "$work/kernel/boot" -name 'vmlinuz-*' | head -n 1)
version=${vmlinuz##*/vmlinuz-}
[ -n "$version" ] || fail 1 "no kernel in $kernel_deb"

# --- root file system ----------------------------------------------------------------------------------------------
root=$work/root
mkdir -p "$root"/{bin,dev,lib/modules,proc,sys,tmp}
install -m 755 "$(find "$work/busybox" -type f -path '*/bin/busybox' | head -n 1)" "$root/bin/busybox"
install -m 755 "$here/init" "$root/init"
# ethtool, which busybox lacks, and what it is linked with
install -m 755 "$(find "$work/ethtool" -type f -name ethtool -path '*/sbin/*' | head -n 1)" "$root/bin/ethtool"
for library in ld-linux.so.2 libc.so.6 libm.so.6 libmnl.so.0; do
  install -m 755 "$(readlink -f "$(find "$work/ethtool" -path "*/i386-linux-gnu/$library" | head -n 1)")" "$root/lib/$library"
done

# Modules lie flat and unpacked. `order` has a line for each, NAME NEEDED…, what one needs before it; `drivers` names those
# that are loaded without being asked for.
loaded=" "
add_module() {
  local name=${1//-/_} file needs need
  case $loaded in *" $name "*) return ;; esac
  loaded="$loaded$name "
  file=$(find "$work/kernel" \( -name "$name.ko*" -o -name "${name//_/-}.ko*" \) | head -n 1)
  if [ -z "$file" ]; then say "module $name is not in $version (built in?)"; return; fi
  case $file in *.xz) xz -dc "$file" ;; *.zst) zstd -dcq "$file" ;; *) cat "$file" ;; esac >"$work/$name.ko"
  # .modinfo is a list of NUL-ended key=value strings
  needs=$(tr '\0' '\n' <"$work/$name.ko" | sed -n 's/^depends=//p' | tr ,- ' _')
  for need in $needs; do add_module "$need"; done
  mv "$work/$name.ko" "$root/lib/modules/$name.ko"
  echo "$name" $needs >>"$root/lib/modules/order"
}
for driver in $drivers $on_demand; do add_module "$driver"; done
echo "$drivers" >"$root/lib/modules/drivers"

# --- initramfs: the "newc" format of cpio --------------------------------------------------------------------------
# Written by hand: a few header fields in hexadecimal, name and contents each filled up to four bytes. That spares a
# tool, and it makes the device node that the kernel opens for init's first words without being root.
inode=0
pad() { case $(($1 % 4)) in 1) printf '\0\0\0' ;; 2) printf '\0\0' ;; 3) printf '\0' ;; esac; }
entry() { # NAME MODE SIZE [MAJOR MINOR]; contents follow
  inode=$((inode + 1))
  printf '070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\0' \
    "$inode" "$2" 0 0 1 0 "$3" 0 0 "${4:-0}" "${5:-0}" $((${#1} + 1)) 0 "$1"
  pad $((110 + ${#1} + 1))
}
archive() {
  local path size
  while IFS= read -r path; do
    if [ -d "$root/$path" ]; then
      entry "$path" $((8#040755)) 0
    else
      size=$(stat -c %s "$root/$path")
      entry "$path" $((8#0100755)) "$size"
      cat "$root/$path"
      pad "$size"
    fi
  done < <(cd "$root" && find . -mindepth 1 -printf '%P\n' | sort)
  entry dev/console $((8#020600)) 0 5 1
  entry 'TRAILER!!!' 0 0
}
# Whoever reads an image meanwhile gets the old one or the new one, whole.
mkdir "$work/images"
archive >"$work/images/initrd"
cp "$vmlinuz" "$work/images/bzimage"
cp "$(find "$work/seabios" -name bios.bin | head -n 1)" "$work/images/bios.bin"
{
  echo "kernel: $version ($(basename "$kernel_deb"))"
  echo "busybox: $(basename "$busybox_deb")"
  echo "bios: $(basename "$seabios_deb")"
  echo "ethtool: $(basename "$ethtool_deb") $(basename "$libmnl_deb") $(basename "$libc_deb")"
  echo "modules:$(cd "$root/lib/modules" && printf ' %s' *.ko)"
} >"$work/images/guest.info"
mv "$work/images"/* "$out/"
printf '%s\n' "$stamp" >"$out/stamp"
say "built Linux $version in $out ($(du -cb "$out/bzimage" "$out/initrd" "$out/bios.bin" | tail -n 1 | cut -f1) bytes)"
