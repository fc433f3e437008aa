# The webhook and the command line: one program.
#
# Two ways to the same image. `prebuilt` comes first because Docker's older builder builds every stage up to the one asked
# for, and this one is for where the Rust base cannot be pulled.

# Takes what images/build has laid out.
FROM scratch AS prebuilt
COPY rootfs/ /
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/outrigger"]

# For people: docker build -f images/outrigger.Dockerfile .
FROM rust:1.95-bookworm AS source
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p outrigger-cli && images/rootfs /rootfs target/release/outrigger

FROM scratch
COPY --from=source /rootfs/ /
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/outrigger"]
