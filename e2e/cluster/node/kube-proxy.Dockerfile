# kube-proxy and the iptables that it calls, without the rest of Debian: the node unpacks this image at its first boot.
ARG BASE
FROM ${BASE} AS debian
RUN set -e; mkdir /tree; \
    set -- /usr/sbin/*tables* /usr/sbin/nft /usr/lib/*/xtables/*.so; \
    tar -ch "$@" $(ldd "$@" 2> /dev/null | grep -o '/[^ :)]*' | sort -u) | tar -x -C /tree

FROM scratch
COPY --from=debian /tree/ /
COPY bin/kube-proxy /usr/local/bin/
ENV PATH=/usr/local/bin:/usr/sbin
ENTRYPOINT ["/usr/local/bin/kube-proxy"]
