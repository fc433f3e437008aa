# The apps of the demo and of the end-to-end tests.
#
# Two ways to the same image. `prebuilt` comes first because Docker's older builder builds every stage up to the one asked
# for, and this one is for where the Rust base cannot be pulled.

# Takes what images/build has laid out.
FROM scratch AS prebuilt
COPY rootfs/ /
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/outrigger-demo"]

# For people: docker build -f images/demo.Dockerfile .
FROM rust:1.95-bookworm AS source
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p outrigger-demo && images/rootfs /rootfs target/release/outrigger-demo && install -d --mode=1777 /rootfs/var/log/app

FROM scratch
COPY --from=source /rootfs/ /
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/outrigger-demo"]
