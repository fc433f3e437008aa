# shellcheck shell=bash
# What the scripts of this directory share: where things are, how they speak, and which of two ways is taken.
#
# Two variants of one cluster:
#   plain  this machine's own docker, kind, helm and kubectl, where a registry answers;
#   own    no registry: Docker from Debian in a network namespace of its own, the programs built from Go modules, the
#          node image from those and Debian packages.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${OUTRIGGER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}}/outrigger/e2e # what is kept: programs, images, logs
state=/run/outrigger-e2e                                                # what lives as long as the own variant's engine
logs=$cache/log
netns=outrigger-e2e
cluster=outrigger
node=$cluster-control-plane
# The plain variant's node: the same minor version as the built one.
plain_image=kindest/node:v1.34.0

# The Go that scripts/setup fetched, where this machine's own is too old.
[ ! -x "$cache/go/bin/go" ] || export PATH=$cache/go/bin:$PATH
export PATH=$PATH:/usr/sbin:/sbin # Debian gives these to root only, and not by every way of becoming root

say() { printf '%4ss  %s\n' "$SECONDS" "$*" >&2; }
die() {
  printf 'error: %s\n' "$1" >&2
  [ $# -lt 2 ] || printf '\nhint: %s\n' "${@:2}" >&2
  exit 1
}
have() {
  local program
  for program; do command -v "$program" > /dev/null || return 1; done
}

# step NAME COMMAND...: runs it, its output in a log; tells how long it took, or why it failed.
step() {
  local name=$1 log started=$SECONDS
  log=$logs/${name// /-}.log
  shift
  mkdir -p "$logs"
  # A subshell, not an `if`: inside a condition bash would forget about `set -e`.
  (set -e; "$@") > "$log" 2>&1 < /dev/null &
  if wait $!; then
    say "√ $name ($((SECONDS - started)) s)"
  else
    say "× $name failed; the end of $log:"
    tail -n 30 "$log" | sed 's/^/      /' >&2
    return 1
  fi
}

# digest FILE-OR-DIRECTORY...: one short hash over names and contents.
digest() {
  local path
  for path; do
    (cd "$(dirname "$path")" && find "$(basename "$path")" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
  done | sha256sum | cut -c1-12
}

# When a process began, in clock ticks since boot: with its number, this names it for good.
started_at() { sed 's/.*) //' "/proc/$1/stat" 2> /dev/null | cut -d' ' -f20; }

# What of the processes that FILE names ("number start", as `started_at` has it) is still there.
alive() {
  local pid start
  read -r pid start _ 2> /dev/null < "$1" && [ -n "$start" ] && [ "$(started_at "$pid")" = "$start" ] && echo "$pid"
}

if [ -w /run ]; then lock=/run/outrigger-e2e.lock; else lock=$cache/lock; fi

# locked SCRIPT ARGS...: goes on in SCRIPT as the only one of its kind on this machine. `--close`, so that whatever the
# script starts and leaves running does not keep the lock.
locked() {
  if [ "${OUTRIGGER_E2E_LOCKED:-}" = yes ]; then
    echo "$$ $(started_at $$) $(basename "$1")" > "$lock"
    return
  fi
  mkdir -p "$cache"
  flock --nonblock "$lock" true || say 'waiting for another of these scripts to end'
  OUTRIGGER_E2E_LOCKED=yes exec flock --close "$lock" "$@"
}

registry_answers() {
  docker image inspect "$plain_image" > /dev/null 2>&1 || timeout 10 docker manifest inspect "$plain_image" > /dev/null 2>&1
}

# The variant that this machine is good for.
suitable_variant() {
  if have docker kind helm kubectl && timeout 10 docker info > /dev/null 2>&1 && registry_answers; then
    echo plain
  else
    echo own
  fi
}

# The variant that is up, or half up; nothing where there is none.
current_variant() {
  if [ -d "$state" ]; then echo own; elif [ -e "$cache/plain" ]; then echo plain; fi
}

# use VARIANT: what docker, kind, helm and kubectl need to know.
use() {
  variant=$1
  case $variant in
    plain) export KUBECONFIG=$cache/kubeconfig ;;
    own)
      # DOCKER_BUILDKIT: Debian's docker.io comes without the newer builder. DOCKER_CONFIG: nothing of the user's own.
      export PATH=$cache/bin:$PATH KUBECONFIG=$state/kubeconfig DOCKER_HOST=unix://$state/docker.sock \
        DOCKER_BUILDKIT=0 DOCKER_CONFIG=$state/docker-config
      ;;
  esac
}

# inside COMMAND...: where the cluster's addresses are reachable. Not `ip netns exec`, which would mount another /sys and
# hide the cgroups. There is no way out of the namespace, so no proxy either.
inside() {
  case $variant in
    plain) "$@" ;;
    own) nsenter --net=/run/netns/$netns env -u HTTP_PROXY -u HTTPS_PROXY -u http_proxy -u https_proxy "$@" ;;
  esac
}
