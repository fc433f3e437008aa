//! What our proxy says that it counted.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};

/// Requests of a port that got the app's 200, from `/metrics`.
pub(crate) fn requests(admin: u16, port: &str) -> anyhow::Result<f64> {
    let mut stream =
        TcpStream::connect((Ipv4Addr::LOCALHOST, admin)).context("failed to reach the admin server")?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("failed to read /metrics")?;
    if !answer.starts_with("HTTP/1.1 200 ") {
        bail!("/metrics answered {:?}", answer.lines().next());
    }
    Ok(sum(&answer, port))
}

fn sum(metrics: &str, port: &str) -> f64 {
    let labels = [format!("port=\"{port}\""), "code=\"200\"".to_owned(), "reason=\"\"".to_owned()];
    let series = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("outrigger_http_requests_total{")?.split_once("} "));
    let wanted =
        series.filter(|(found, _)| labels.iter().all(|label| found.split(',').any(|one| one == label)));
    wanted.filter_map(|(_, value)| value.split(' ').next()?.parse::<f64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_app_answered_with_200_on_the_port_counts() {
        let metrics = "\
            outrigger_http_requests_total{direction=\"inbound\",port=\"http\",method=\"GET\",code=\"200\",reason=\"\"} 7\n\
            outrigger_http_requests_total{direction=\"inbound\",port=\"http\",method=\"PUT\",code=\"200\",reason=\"\"} 2 # {}\n\
            outrigger_http_requests_total{direction=\"inbound\",port=\"http\",method=\"GET\",code=\"502\",reason=\"reset\"} 9\n\
            outrigger_http_requests_total{direction=\"inbound\",port=\"http2\",method=\"GET\",code=\"200\",reason=\"\"} 9\n";
        assert!((sum(metrics, "http") - 9.0).abs() < f64::EPSILON);
    }
}
