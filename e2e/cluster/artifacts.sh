# shellcheck shell=bash
# What the own variant is made of. Each thing is kept under a name that holds a hash of all that it is made from: what is
# there under its name need not be built again.

kubernetes=$(sed -n 's,^\tk8s.io/kubernetes \(v[0-9.]*\).*,\1,p' "$here/go/kubernetes/go.mod")
rootfs=$cache/rootfs-$(digest "$here/node/packages").tar
node_image=outrigger-e2e/node:$(digest "$here/node" "$here/go/kubernetes" "$here/go/etcd" "$here/go/coredns" "$here/go/kind")

# programs SET: the programs of the Go module go/SET, linked into bin/. One module for each set, so that their
# requirements do not meet.
programs() {
  local set=$1 dir
  dir=$cache/programs/$set-$(digest "$here/go/$set")
  mkdir -p "$cache/bin" "$cache/programs"
  if [ ! -d "$dir" ]; then
    # Two may want the same: `make lint` its helm, while the cluster is being built.
    (
      flock 9
      [ -d "$dir" ] || step "build $set" compile "$set" "$dir"
    ) 9> "$cache/programs/$set.lock"
  fi
  ln -sf "$dir"/* "$cache/bin/"
}

compile() {
  local set=$1 dir=$2
  rm -rf "$dir.part"
  mkdir -p "$dir.part"
  cd "$here/go/$set" || return
  GOFLAGS='' GOWORK=off CGO_ENABLED=0 go build -trimpath -buildvcs=false -mod=readonly \
    -tags "$(cat tags 2> /dev/null || true)" -ldflags "-s -w $(cat ldflags 2> /dev/null || true)" -o "$dir.part/" tool
  # Go names etcd's server after its directory.
  [ "$set" != etcd ] || mv "$dir.part/server" "$dir.part/etcd"
  mv "$dir.part" "$dir"
}

pause_program() {
  local program
  program=$cache/programs/pause-$(digest "$here/node/pause.c")
  [ -x "$program" ] || { mkdir -p "$cache/programs" && cc -Os -static -s -o "$program" "$here/node/pause.c"; }
  ln -sf "$program" "$cache/bin/pause"
}

debian_rootfs() {
  [ -e "$rootfs" ] || step 'bootstrap Debian' bootstrap
}

bootstrap() {
  local tree=$cache/rootfs.part
  rm -rf "$tree"
  debootstrap --variant=minbase --include="$(paste -sd, "$here/node/packages")" bookworm "$tree"
  tar -C "$tree" -cf "$rootfs.part" --exclude=./usr/share/{doc,man,locale,info} --exclude=./var/cache/apt/* --exclude=./var/lib/apt/lists/* .
  rm -rf "$tree"
  mv "$rootfs.part" "$rootfs"
}

# Everything that needs no engine. Three lanes: the compiler keeps the cores busy in two of them, the network is what the
# third waits for.
build_all() {
  programs kubernetes & local lanes=($!)
  (for set in kind etcd coredns helm kubeconform; do programs "$set"; done) & lanes+=($!)
  debian_rootfs & lanes+=($!)
  local lane failed=''
  for lane in "${lanes[@]}"; do wait "$lane" || failed=yes; done
  [ -z "$failed" ] || die 'not everything could be built' "$(build_hint)"
  pause_program
}

build_hint() {
  have go || { echo 'scripts/setup e2e brings a Go'; return; }
  have debootstrap cc || { echo 'scripts/setup e2e installs what is missing'; return; }
  echo 'the log above tells why; what was built is kept, so another try goes on from there'
}

# The node image, in the engine's store. Wants the engine.
build_node_image() {
  docker image inspect "$node_image" > /dev/null 2>&1 || step 'node image' assemble_node_image
}

assemble_node_image() {
  local context=$cache/node-context debian=outrigger-e2e/debian:node image images=()
  rm -rf "$context"
  mkdir -p "$context/bin"
  cp "$here"/node/* "$context/"
  cp -L "$cache"/bin/{kubeadm,kubelet,kubectl,kube-proxy} "$context/bin/"
  cp -r "$(kind_module)/images/base/files" "$context/kind-files"
  chmod -R u+w "$context/kind-files"
  docker import "$rootfs" "$debian"

  while read -r image; do
    control_plane_image "$image" "$debian" "$context"
    images+=("$image")
  done < <(kubeadm config images list --kubernetes-version "$kubernetes")
  docker save -o "$context/images.tar" "${images[@]}"

  rm "$context/bin/kube-proxy"
  docker build --quiet --tag "$node_image" --build-arg BASE="$debian" --build-arg VERSION="$kubernetes" \
    --build-arg PAUSE="$(printf '%s\n' "${images[@]}" | grep /pause:)" "$context"
  rm -rf "$context"
  # Older ones, a gigabyte each. The one that a cluster still runs on refuses to go.
  docker images --format '{{.Repository}}:{{.Tag}}' outrigger-e2e/node | grep -vx "$node_image" | xargs -r docker rmi || true
  docker image prune -f
}

# control_plane_image NAME DEBIAN CONTEXT: the image that kubeadm expects under this name: the program called like it, and
# nothing else but what kube-proxy needs.
control_plane_image() {
  local image=$1 program
  program=$(basename "${image%:*}")
  if [ "$program" = kube-proxy ]; then
    docker build --quiet --tag "$image" --build-arg BASE="$2" --file "$3/kube-proxy.Dockerfile" "$3"
  else
    tar -C "$cache/bin" -ch --transform 's,^,usr/local/bin/,' "$program" \
      | docker import --change 'ENV PATH=/usr/local/bin' --change "ENTRYPOINT [\"/usr/local/bin/$program\"]" - "$image"
  fi
}

# Where kind's own files for its node image are: in its module.
kind_module() {
  cd "$here/go/kind" || return
  GOFLAGS='' GOWORK=off go mod download sigs.k8s.io/kind >&2
  GOFLAGS='' GOWORK=off go list -m -f '{{.Dir}}' sigs.k8s.io/kind
}
