//! The proxy's metrics in Prometheus' words. Names and labels here are a contract.
//!
//! Label values come from the config (`port`, `upstream`) or from closed sets, never from a client: a path or a `Host` as a label
//! lets anybody fill the memory of Prometheus. No pod or namespace either: scraping adds those.

use std::collections::BTreeMap;
use std::fmt::Error;
use std::sync::Arc;

use outrigger_runtime::shutdown::Drain;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::access_log::Dropped;
use crate::auth::Decision;
use crate::grpc::Code;
use crate::http2::Ended;
use crate::identify::Detected;
use crate::labels::Labels;
use crate::latency::{REQUEST, Snapshot};
use crate::method::Method;
use crate::metrics::{ByReason, PortMetrics, Ports};
use crate::reason::Reason;
use crate::series::CLASSES;
use crate::tap::Taps;
use crate::tls::Handshake;

type Label<'a> = (&'a str, &'a str);

/// A value, with its labels beside direction and port.
type Value<'a> = (Vec<Label<'a>>, u64);

#[derive(Debug)]
pub(crate) struct ProxyCollector {
    pub(crate) ports: Ports,
    /// Clients' connections, and how many there may be.
    pub(crate) served: Drain,
    pub(crate) connections: usize,
    pub(crate) dropped: Arc<Dropped>,
    pub(crate) taps: Taps,
}

impl Collector for ProxyCollector {
    fn encode(&self, encoder: DescriptorEncoder) -> Result<(), Error> {
        let all = self.ports.all();
        let http = all.iter().filter(|port| port.is_http()).map(Arc::clone).collect();
        let mut families = Families { encoder, ports: http };
        families.requests()?;
        families.http2()?;
        families.ports = all;
        families.auth()?;
        families.handshakes()?;
        families.circuits()?;
        families.relayed()?;
        families.upstream()?;
        families.single("client_connections", "Clients' connections, open now", self.served.count())?;
        let help = "Most connections that clients may have at a time";
        families.single("client_connections_limit", help, self.connections)?;
        families.single("taps", "Readers of /tap, now", self.taps.readers())?;
        let (name, help) = ("access_log_lines_dropped", "Lines of the access log that stdout did not take");
        let dropped = ConstCounter::new(self.dropped.get());
        dropped.encode(families.encoder.encode_descriptor(name, help, None, dropped.metric_type())?)
    }
}

/// Writes one family after the other, each for these ports.
struct Families<'a> {
    encoder: DescriptorEncoder<'a>,
    ports: Vec<Arc<PortMetrics>>,
}

impl Families<'_> {
    /// A gauge of the whole proxy.
    fn single(&mut self, name: &str, help: &str, value: usize) -> Result<(), Error> {
        let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        gauge.encode(self.encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
    }

    fn requests(&mut self) -> Result<(), Error> {
        self.request_counts()?;
        self.request_durations()?;
        self.histogram(
            ("http_proxy_overhead_seconds", "Time that the proxy itself worked on a request"),
            |port| vec![(Vec::new(), port.own_time.snapshot())],
        )?;
        self.gauge(("http_active_requests", "Requests in flight"), |port| one(port.active()))?;
        let help = "Requests in flight that wait until fewer are under way";
        self.gauge(("http_pending_requests", help), |port| one(port.pending.get()))?;
        self.counter(("http_request_body_bytes", "Body bytes received from clients"), |port| {
            one(port.request_body_bytes.get())
        })?;
        self.counter(
            ("http_response_body_bytes", "Bytes of the bodies that the app answered with"),
            |port| one(port.response_body_bytes.get()),
        )?;
        self.counter(
            ("retries", "Requests sent to the app once more, by whether it answered in the end"),
            |port| {
                let counts = port.upstream.retried.iter().zip(["answered", "failed"]);
                counts.map(|(count, result)| (vec![("result", result)], count.get())).collect()
            },
        )?;
        let help = "Requests not sent once more, because as many were as the budget has";
        self.counter(("retries_budget_exhausted", help), |port| one(port.upstream.unbudgeted.get()))?;
        self.counter(("overrides", "Answers of the app that were changed by their status"), |port| {
            one(port.overridden.get())
        })?;
        let help = "Clients' connections closed by the proxy, because no further request came";
        self.counter(("idle_connections_closed", help), |port| one(port.idle_closed.get()))?;
        let help =
            "Requests counted with method and code _OTHER, because their port has as many series as it may";
        self.counter(("metrics_series_dropped", help), |port| {
            let requests = port.requests.snapshot();
            let beyond = requests.iter().filter(|(key, _)| key.is_beyond_cap());
            one(beyond.map(|(_, durations)| durations.count()).sum())
        })
    }

    fn http2(&mut self) -> Result<(), Error> {
        self.counter(("grpc_requests", "Calls by gRPC that have ended, by their status"), |port| {
            // The good end from the start, for a rate to begin with; the others where they occurred.
            let shown = port.grpc.all().into_iter().filter(|(code, count)| *code == Code::OK || *count > 0);
            shown.map(|(code, count)| (vec![("grpc_code", code.name())], count)).collect()
        })?;
        self.counter(("http2_connections_opened", "Clients' connections by HTTP/2, opened"), |port| {
            one(port.http2.opened.get())
        })?;
        let help = "Clients' connections by HTTP/2, closed, by the reason where they did not end in order";
        self.counter(("http2_connections_closed", help), |port| {
            let all = port.http2.closed().into_iter();
            let shown = all.filter(|(ended, count)| *ended == Ended::Orderly || *count > 0);
            shown.map(|(ended, count)| (vec![("reason", ended.as_str())], count)).collect()
        })?;
        self.gauge(("http2_open_connections", "Clients' connections by HTTP/2, open now"), |port| {
            one(port.http2.open())
        })
    }

    fn request_counts(&mut self) -> Result<(), Error> {
        let (name, help) =
            ("http_requests", "Requests whose answer has ended, by status and by the reason where it failed");
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for port in &self.ports {
            // Those that are counted apart by class only have the same labels.
            let mut counts = BTreeMap::<_, u64>::new();
            for (key, durations) in port.requests.snapshot() {
                *counts.entry((key.version, key.method, key.code_label(), key.reason)).or_default() +=
                    durations.count();
            }
            for ((version, method, code, reason), count) in counts {
                let own = [
                    ("method", method.label()),
                    ("code", &code),
                    ("protocol", version.as_str()),
                    ("reason", reason.as_str()),
                ];
                ConstCounter::new(count).encode(family.encode_family(&labels(port, &own))?)?;
            }
        }
        Ok(())
    }

    fn request_durations(&mut self) -> Result<(), Error> {
        let name = "http_request_duration_seconds";
        let help = "Time from a request's head to the end of its answer, by status class";
        self.histogram((name, help), |port| {
            let mut durations = BTreeMap::new();
            for (key, more) in port.requests.snapshot() {
                let known = durations.entry((key.method, key.class()));
                known.or_insert_with(|| Snapshot::empty(&REQUEST)).add(&more);
            }
            let labels =
                |(method, class)| vec![("method", Method::label(method)), ("code_class", CLASSES[class])];
            durations.into_iter().map(|(key, durations)| (labels(key), durations)).collect()
        })
    }

    fn auth(&mut self) -> Result<(), Error> {
        self.counter(("auth_decisions", "Requests that need a credential, by how they were judged"), |port| {
            let counts = port.auth.iter().zip(Decision::ALL);
            let all: Vec<_> =
                counts.map(|(count, (_, result))| (vec![("result", result)], count.get())).collect();
            // A port that needs none has none.
            if all.iter().all(|(_, count)| *count == 0) { Vec::new() } else { all }
        })
    }

    fn handshakes(&mut self) -> Result<(), Error> {
        self.counter(("tls_handshakes", "Handshakes by TLS, by how they went"), |port| {
            let counts = port.handshakes.iter().zip(Handshake::ALL);
            let all: Vec<_> =
                counts.map(|(count, (_, result))| (vec![("result", result)], count.get())).collect();
            // A port without TLS has none.
            if all.iter().all(|(_, count)| *count == 0) { Vec::new() } else { all }
        })
    }

    fn circuits(&mut self) -> Result<(), Error> {
        let help = "State of the circuit breaker: 0 closed, 1 open, 2 half-open; the worst of an upstream's addresses";
        self.gauge(("circuit_state", help), |port| {
            let state = port.circuit.state().map(|state| (vec![("mode", port.circuit.mode())], state as u64));
            state.into_iter().collect()
        })?;
        self.counter(("circuit_transitions", "Changes of the circuit breaker's state"), |port| {
            let all = port.circuit.transitions().into_iter().filter(|(_, count)| *count > 0);
            all.map(|(cause, count)| (vec![("to", cause.leads_to()), ("cause", cause.as_str())], count))
                .collect()
        })?;
        let help = "Requests that the circuit breaker kept from the upstream, or, where it only observes, would have";
        self.counter(("circuit_rejected", help), |port| {
            let circuit = port.circuit.state().map(|_| &port.circuit);
            let of_mode = |mode, count| (vec![("mode", mode)], count);
            let counts = circuit.map(|circuit| {
                [of_mode("enforce", circuit.rejected.get()), of_mode("observe", circuit.observed.get())]
            });
            counts.into_iter().flatten().collect()
        })
    }

    fn relayed(&mut self) -> Result<(), Error> {
        self.counter(("tcp_connections_opened", "Connections relayed as bytes, opened"), |port| {
            one(port.relayed.opened.get())
        })?;
        let help = "Connections relayed as bytes, closed, by the reason where they did not end in order";
        self.counter(("tcp_connections_closed", help), |port| {
            // The orderly end from the start, for a rate to begin with; the others where they occurred.
            occurred(&port.relayed.closed, Reason::None)
        })?;
        self.gauge(("tcp_open_connections", "Connections relayed as bytes, open now"), |port| {
            one(port.relayed.open())
        })?;
        self.counter(("tcp_read_bytes", "Bytes read from clients of relayed connections"), |port| {
            one(port.relayed.read.get())
        })?;
        self.counter(("tcp_written_bytes", "Bytes written to clients of relayed connections"), |port| {
            one(port.relayed.written.get())
        })
    }

    fn upstream(&mut self) -> Result<(), Error> {
        self.counter(("detect", "Clients by what they were found to speak"), |port| {
            let counts = port.detected.iter().zip(Detected::ALL);
            let shown = counts.filter(|(count, _)| port.is_http() || count.get() > 0);
            shown.map(|(count, (_, result))| (vec![("result", result)], count.get())).collect()
        })?;
        self.histogram(
            ("upstream_connect_duration_seconds", "Time that connections to the app took to be made"),
            |port| vec![(Vec::new(), port.upstream.connects.snapshot())],
        )?;
        self.counter(("upstream_connect_errors", "Connections to the app that were not made"), |port| {
            occurred(&port.upstream.failed, Reason::ConnectRefused)
        })?;
        self.gauge(("upstream_pool_connections", "Connections to the app that are open"), |port| {
            let (idle, active) = (port.upstream.idle.get(), port.upstream.active());
            vec![(vec![("state", "idle")], idle), (vec![("state", "active")], active)]
        })?;
        let help = "Requests that were sent on an idle connection to the app";
        self.counter(("upstream_reuses", help), |port| one(port.upstream.reused.get()))
    }

    fn counter<'v>(
        &mut self,
        (name, help): (&str, &str),
        values: impl Fn(&PortMetrics) -> Vec<Value<'v>>,
    ) -> Result<(), Error> {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for port in &self.ports {
            for (own, value) in values(port) {
                ConstCounter::new(value).encode(family.encode_family(&labels(port, &own))?)?;
            }
        }
        Ok(())
    }

    fn gauge<'v>(
        &mut self,
        (name, help): (&str, &str),
        values: impl Fn(&PortMetrics) -> Vec<Value<'v>>,
    ) -> Result<(), Error> {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for port in &self.ports {
            for (own, value) in values(port) {
                ConstGauge::new(value).encode(family.encode_family(&labels(port, &own))?)?;
            }
        }
        Ok(())
    }

    fn histogram<'v>(
        &mut self,
        (name, help): (&str, &str),
        values: impl Fn(&PortMetrics) -> Vec<(Vec<Label<'v>>, Snapshot)>,
    ) -> Result<(), Error> {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for port in &self.ports {
            for (own, latency) in values(port) {
                let (labels, buckets) = (labels(port, &own), latency.buckets());
                let mut series = family.encode_family(&labels)?;
                series.encode_histogram::<NoLabelSet>(
                    latency.sum_seconds,
                    latency.count(),
                    &buckets,
                    None,
                )?;
            }
        }
        Ok(())
    }
}

fn labels<'a>(port: &'a PortMetrics, own: &[Label<'a>]) -> Vec<Label<'a>> {
    let Labels { direction, port, upstream } = &port.labels;
    let upstream = upstream.as_deref().map(|upstream| ("upstream", upstream));
    let ours = [("direction", direction.as_str()), ("port", port)];
    ours.into_iter().chain(upstream).chain(own.iter().copied()).collect()
}

fn one<'a>(value: u64) -> Vec<Value<'a>> {
    vec![(Vec::new(), value)]
}

/// The counts of those reasons that occurred, and of one always.
fn occurred(counts: &ByReason, always: Reason) -> Vec<Value<'static>> {
    let shown = counts.all().into_iter().filter(|(reason, count)| *count > 0 || *reason == always);
    shown.map(|(reason, count)| (vec![("reason", reason.as_str())], count)).collect()
}
