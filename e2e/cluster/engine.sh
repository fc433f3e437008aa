# shellcheck shell=bash
# The own variant's Docker engine: in a network namespace of its own, so that nothing of it can be reached from outside nor
# reach out, and with a cgroup of its own, so that whatever it started can be found.

# The kubelet sets these for the whole machine, whatever container it runs in: `down` puts them back.
readonly tunables=(vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes)

# Of a block that is nobody's (RFC 5737).
readonly nameserver=192.0.2.53

engine_answers() { timeout 5 docker version > /dev/null 2>&1; }

start_engine() {
  [ "$(id -u)" = 0 ] || die 'starting a Docker engine takes root' \
    'run this as root, or install docker, kind, helm and kubectl: with those and a registry, none of this is needed'
  have dockerd ip nsenter jq iptables || die 'programs are missing' 'scripts/setup e2e installs them'
  ! engine_answers || return 0
  # What an earlier, interrupted start has left would be in the way.
  [ ! -d "$state" ] || sweep
  mkdir -p "$state/docker-config"
  note_tunables
  make_netns
  launch_nameserver
  step 'start Docker' launch_engine
  # Left by an engine that ended without `down`: the machine went off, say.
  docker ps -aq | xargs -r docker rm -fv > /dev/null
  docker volume prune -f > /dev/null
}

make_netns() {
  mountpoint -q /run/netns || touch "$state/made-netns-mount"
  ip netns add "$netns"
  ip -n "$netns" link set lo up
}

# Says of every name that it does not exist. With no answer at all, whoever asks for a name outside the cluster waits ten
# seconds; kind's node does at its start.
launch_nameserver() {
  ip -n "$netns" address add "$nameserver/32" dev lo
  printf '. {\n  bind %s\n  template ANY ANY {\n    rcode NXDOMAIN\n  }\n}\n' "$nameserver" > "$state/Corefile"
  detached "$cache/bin/coredns" -conf "$state/Corefile" > "$state/coredns.log" 2>&1
}

# detached COMMAND...: starts it in our network namespace, out of reach of a Ctrl-C in the terminal that `up` runs in.
detached() { setsid nsenter --net="/run/netns/$netns" "$@" < /dev/null & }

launch_engine() {
  # A copy: the checkout may go away while the engine runs.
  cp "$here/node/runc-nosysres" "$state/"
  cat > "$state/daemon.json" << EOF
{
  "data-root": "$cache/docker",
  "exec-root": "$state/exec",
  "hosts": ["$DOCKER_HOST"],
  "pidfile": "$state/docker.pid",
  "storage-driver": "overlay2",
  "dns": ["$nameserver"],
  "cgroup-parent": "/$netns",
  "exec-opts": ["native.cgroupdriver=cgroupfs"],
  "default-runtime": "nosysres",
  "runtimes": {"nosysres": {"path": "$state/runc-nosysres"}}
}
EOF
  detached dockerd --config-file "$state/daemon.json" > "$state/dockerd.log" 2>&1
  echo "$! $(started_at $!)" > "$state/engine"
  for _ in $(seq 100); do
    engine_answers && return
    kill -0 $! 2> /dev/null || break
    sleep 0.3
  done
  cat "$state/dockerd.log"
  return 1
}

# Ends the engine and everything that came from it, whatever state it is in. Nothing here may stop half-way.
sweep() {
  stop_engine || true
  end_processes || true
  unmount_all || true
  remove_cgroups || true
  remove_netns || true
  restore_tunables || true
  rm -rf "$state"
}

stop_engine() {
  local pid
  pid=$(alive "$state/engine") || return 0
  kill "$pid"
  for _ in $(seq 100); do
    alive "$state/engine" > /dev/null || return 0
    sleep 0.2
  done
  kill -KILL "$pid"
}

# Ours are those in our network namespace and those in our cgroup: nobody else has a way into either. Containers live in
# the cgroup; shims, proxies and what `run` has left live in the namespace.
our_processes() {
  local inode pid
  find /sys/fs/cgroup -path "*/$netns/*" -name cgroup.procs -exec cat {} + 2> /dev/null
  inode=$(stat -L -c %i "/run/netns/$netns" 2> /dev/null) || return 0
  for pid in /proc/[0-9]*; do
    [ "$(readlink "$pid/ns/net" 2> /dev/null)" != "net:[$inode]" ] || echo "${pid#/proc/}"
  done
}

end_processes() {
  local signal pids
  for signal in TERM KILL KILL; do
    pids=$(our_processes | sort -u | grep -vx -e "$$" -e "$BASHPID" -e "$PPID" || true)
    [ -n "$pids" ] || return 0
    # shellcheck disable=SC2086 # one argument for each number
    kill -$signal $pids 2> /dev/null || true
    sleep 1
  done
}

unmount_all() {
  local mount
  cut -d' ' -f2 /proc/self/mounts | grep -E "^($state|$cache)/" | sort -r | while read -r mount; do
    umount "$mount" 2> /dev/null || umount --lazy "$mount" || true
  done
}

remove_cgroups() {
  find /sys/fs/cgroup -depth -type d \( -path "*/$netns" -o -path "*/$netns/*" \) -exec rmdir {} + 2> /dev/null
}

remove_netns() {
  [ ! -e "/run/netns/$netns" ] || ip netns del "$netns"
  # `ip netns add` makes a mount of the directory at its first use.
  if [ -e "$state/made-netns-mount" ] && [ -z "$(ls -A /run/netns)" ]; then
    umount /run/netns && rmdir /run/netns
  fi
}

note_tunables() {
  local name
  for name in "${tunables[@]}"; do
    [ ! -e "/proc/sys/$name" ] || echo "$name $(cat "/proc/sys/$name")"
  done > "$state/tunables"
}

restore_tunables() {
  local name value
  while read -r name value; do
    [ "$(cat "/proc/sys/$name")" = "$value" ] || echo "$value" > "/proc/sys/$name"
  done < "$state/tunables"
}
