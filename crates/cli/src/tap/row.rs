//! A request as a row of text.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use serde_json::Value;

use super::pods::Tapped;
use crate::output::{printable, str_at};

/// Rows under their heads.
pub(super) struct Rows {
    /// Of the longest name of a pod.
    width: usize,
    begun: bool,
}

impl Rows {
    pub(super) fn of<'a>(pods: impl Iterator<Item = &'a str>) -> Self {
        Self { width: pods.map(str::len).max().unwrap_or_default().max(3), begun: false }
    }

    /// The next one, after the heads where it is the first.
    pub(super) fn row(&mut self, pod: &Tapped, request: &Value) -> String {
        let bold = Style::new().bold();
        let width = self.width;
        let heads = format!(
            "{bold}{:<12}  {:<width$}  {:<7}  {:<6}  {:>8}  {:>7}  {:>7}  {:<22}  PATH{bold:#}\n",
            "TIME", "POD", "METHOD", "STATUS", "LATENCY", "IN", "OUT", "PEER",
        );
        let heads = if std::mem::replace(&mut self.begun, true) { String::new() } else { heads };
        let status = request["status"].as_u64().unwrap_or_default();
        let style = colour(status);
        let row = format!(
            "{:<12}  {:<width$}  {:<7}  {:<6}  {:>8}  {:>7}  {:>7}  {:<22}  {}",
            time(request),
            pod.name,
            str_at(request, "/method"),
            status,
            latency(request["durationSeconds"].as_f64().unwrap_or_default()),
            bytes(&request["requestBodyBytes"]),
            bytes(&request["responseBodyBytes"]),
            peer(request),
            path(request),
        );
        let row = printable(&row);
        format!("{heads}{style}{row}{style:#}\n")
    }
}

fn colour(status: u64) -> Style {
    match status {
        500.. => AnsiColor::Red.on_default(),
        400..500 => AnsiColor::Yellow.on_default(),
        _ => Style::new(),
    }
}

/// Of the day, to the millisecond, in UTC as it comes.
fn time(request: &Value) -> &str {
    let time = str_at(request, "/time").split_once('T').map_or("", |(_, time)| time);
    time.get(..12).unwrap_or(time)
}

fn latency(seconds: f64) -> String {
    match seconds {
        1.0.. => format!("{seconds:.2} s"),
        0.01.. => format!("{:.0} ms", seconds * 1000.0),
        _ => format!("{:.2} ms", seconds * 1000.0),
    }
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn bytes(value: &Value) -> String {
    let number = value.as_u64().unwrap_or_default();
    match number {
        1_000_000.. => format!("{:.1} MB", number as f64 / 1e6),
        10_000.. => format!("{:.0} kB", number as f64 / 1e3),
        _ => format!("{number} B"),
    }
}

/// Who asked, or who was asked.
fn peer(request: &Value) -> String {
    if str_at(request, "/direction") == "inbound" {
        return format!("from {}", request["client"].as_str().unwrap_or("?"));
    }
    let named = request["upstream"].as_str().filter(|name| *name != "_other").or(request["host"].as_str());
    format!("to {}:{}", named.unwrap_or("?"), str_at(request, "/port"))
}

/// With what there is to say beside: how gRPC ended, why the app did not answer, how many were not shown.
fn path(request: &Value) -> String {
    let mut path = str_at(request, "/path").to_owned();
    for said in [str_at(request, "/grpcStatus"), str_at(request, "/reason")] {
        if !said.is_empty() && said != "OK" {
            let _ = write!(path, "  ({said})");
        }
    }
    if let Some(left_out) = request["leftOut"].as_u64() {
        let _ = write!(path, "  (and {left_out} more)");
    }
    path
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Tapped {
        Tapped {
            namespace: "shop".to_owned(),
            name: "api-1".to_owned(),
            address: None,
            admin_port: 1,
            token: String::new(),
            profile: String::new(),
        }
    }

    #[test]
    fn a_row_tells_who_asked_what_and_how_it_went() {
        let mut rows = Rows::of(["api-1"].into_iter());
        let mut request = json!({"time": "2026-11-22T10:11:12.345678Z", "direction": "inbound", "port": "http",
            "client": "10.0.3.7", "method": "GET", "path": "/carts/7\u{1b}[2J", "status": 503, "reason": "circuit_open",
            "requestBodyBytes": 0, "responseBodyBytes": 12_345, "durationSeconds": 0.312, "leftOut": 7});
        let text = anstream::adapter::strip_str(&rows.row(&pod(), &request)).to_string();
        let (heads, row) = text.split_once('\n').unwrap();
        assert!(heads.starts_with("TIME          POD    METHOD   STATUS   LATENCY"), "{heads}");
        assert_eq!(
            row.trim_end(),
            "10:11:12.345  api-1  GET      503       312 ms      0 B    12 kB  from 10.0.3.7           /carts/7\u{fffd}[2J  (circuit_open)  (and 7 more)"
        );
        request["direction"] = "outbound".into();
        request["upstream"] = "payments".into();
        request["port"] = "8080".into();
        let next = rows.row(&pod(), &request);
        assert!(!next.contains("TIME") && next.contains("to payments:8080"), "{next}");
    }
}
