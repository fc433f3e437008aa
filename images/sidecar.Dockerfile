# What runs beside an app. As the user whose traffic redirection leaves alone.
#
# Two ways to the same image. `prebuilt` comes first because Docker's older builder builds every stage up to the one asked
# for, and this one is for where the Rust base cannot be pulled.

# Takes what images/build has laid out.
FROM scratch AS prebuilt
COPY rootfs/ /
USER 15180:15180
ENTRYPOINT ["/usr/local/bin/outrigger-proxy"]

# For people: docker build -f images/sidecar.Dockerfile .
FROM rust:1.95-bookworm AS source
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p outrigger-proxy -p outrigger-logs -p outrigger-redirect -p outrigger-sync \
  && images/rootfs /rootfs target/release/outrigger-proxy target/release/outrigger-logs target/release/outrigger-redirect target/release/outrigger-sync

FROM scratch
COPY --from=source /rootfs/ /
USER 15180:15180
ENTRYPOINT ["/usr/local/bin/outrigger-proxy"]
