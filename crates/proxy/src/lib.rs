//! Outrigger's traffic proxy: takes over an app's ports, passes traffic on to the app, and counts it.
//!
//! A request's way: `listener` accepts, `serve` tells HTTP/1 and HTTP/2 apart (`identify`, and `detect` where it may be anything), `http1` and `http2` run
//! one function a request: forward (`forward`, with `pool`), then observe (`observe`). Everything else is relayed as bytes
//! (`tcp`). One thread does all of that, so its state needs no locks; the admin server has a thread of its own, because
//! a scrape must not delay a request.
//!
//! The app's view is unchanged: `Host`, header case and body bytes go through as they came, and no `X-Forwarded-For`,
//! `Via`, `Server` or `Date` is added, as in the inbound sidecars of Linkerd and Istio. An app that counts hops from the
//! end of `X-Forwarded-For` would otherwise take a load balancer for the client. Its peer is the pod's own address.

mod access_log;
mod admin;
mod answer;
mod app_metrics;
mod auth;
mod breaker;
mod bucket;
mod buffer;
mod cgroup;
mod chance;
mod circuit;
mod collector;
pub mod config;
mod configured;
mod connect;
mod counter;
mod crowded;
mod detect;
mod failures;
mod forward;
mod grpc;
mod headers;
pub mod hook;
mod host;
mod http1;
mod http2;
mod identify;
mod labels;
mod latency;
pub mod limits;
mod listener;
mod listening;
mod live;
mod method;
mod metrics;
mod observe;
pub mod open_files;
mod overrides;
mod own_calls;
mod own_time;
mod page;
mod pipe;
mod policy;
mod pool;
mod port;
mod probe;
pub mod proxy;
mod reason;
mod redirected;
mod reload;
mod request;
mod request_target;
mod retry;
mod room;
mod routes;
mod seat;
mod secrets;
mod series;
mod serve;
mod socket_io;
mod sockets;
mod stall;
mod stats;
mod stream;
mod tap;
mod target;
mod tcp;
mod tls;
mod turns;
mod window;
mod worker;
