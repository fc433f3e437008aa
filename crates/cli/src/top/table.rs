//! The table: a line for each service, or pod.

use std::cmp::Reverse;
use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use serde_json::Value;

use crate::output::{printable, str_at};

/// By which column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Sort {
    /// What wants to be looked at first.
    #[default]
    State,
    /// By name.
    Name,
    /// Most requests first.
    Rate,
    /// Most errors first.
    Errors,
    /// The slowest first.
    P50,
    /// The slowest first.
    P95,
    /// The slowest first.
    P99,
}

/// From the best to the worst.
const STATES: [&str; 6] = ["good", "waiting", "elevated", "slow", "failing", "gone"];
const COLUMNS: [&str; 9] = ["STATE", "NAME", "RATE", "ERRORS", "P50", "P95", "P99", "FILES", "WHY"];
/// The version of the files, which few pods have: without any it is left out.
const FILES: usize = 7;
/// Characters of a cell: more than a terminal shows, and fewer than a width may be (65,535).
const WIDEST: usize = 250;
/// Those of numbers, from the third on.
const NUMBERS: std::ops::Range<usize> = 2..7;

/// The lines of a view: services of the mesh, or pods of a service.
fn lines(view: &Value) -> &[Value] {
    let list = view["services"].as_array().or_else(|| view["podCards"].as_array());
    list.map(Vec::as_slice).unwrap_or_default()
}

/// Whether a line is slow or worse.
pub(super) fn is_troubled(view: &Value) -> bool {
    lines(view).iter().any(|line| rank(line) >= 3)
}

fn rank(line: &Value) -> usize {
    STATES.iter().position(|state| line["state"] == *state).unwrap_or_default()
}

/// The table, whose lines have so many characters at most.
pub(super) fn text(view: &Value, sort: Sort, columns: usize) -> String {
    let mut sorted: Vec<_> = lines(view).iter().collect();
    sorted.sort_by(|a, b| str_at(a, "/name").cmp(str_at(b, "/name")));
    // In thousandths, for an order that is total.
    #[expect(clippy::cast_possible_truncation, reason = "milliseconds and rates")]
    let figure =
        |line: &Value, name: &str| Reverse((line["figures"][name].as_f64().unwrap_or(-1.0) * 1000.0) as i64);
    match sort {
        Sort::State => sorted.sort_by_key(|line| Reverse(rank(line))),
        Sort::Name => {}
        Sort::Rate => sorted.sort_by_key(|line| figure(line, "rate")),
        Sort::Errors => sorted.sort_by_key(|line| figure(line, "errorShare")),
        Sort::P50 => sorted.sort_by_key(|line| figure(line, "p50")),
        Sort::P95 => sorted.sort_by_key(|line| figure(line, "p95")),
        Sort::P99 => sorted.sort_by_key(|line| figure(line, "p99")),
    }
    let now = Timestamp::now();
    let cells: Vec<_> = sorted.iter().map(|line| (rank(line), cells(line, now))).collect();
    let width = |column: usize| {
        let widths = cells.iter().map(|(_, cells)| cells[column].chars().count());
        widths.chain([COLUMNS[column].len()]).max().unwrap_or_default()
    };
    let has_files = cells.iter().any(|(_, cells)| !cells[FILES].is_empty());
    let widths: Vec<_> =
        (0..COLUMNS.len()).map(|column| (column != FILES || has_files).then(|| width(column))).collect();
    let bold = Style::new().bold();
    let mut text = String::new();
    let _ = writeln!(text, "{bold}{}{bold:#}", row(&COLUMNS.map(str::to_owned), &widths, columns));
    for (rank, cells) in &cells {
        let style = colour(*rank);
        let _ = writeln!(text, "{style}{}{style:#}", row(cells, &widths, columns));
    }
    if cells.is_empty() {
        text.push_str("no injected pods\n");
    }
    text
}

fn cells(line: &Value, now: Timestamp) -> [String; 9] {
    let figures = &line["figures"];
    // Of what says nothing nothing is known; that is not zero.
    let says = !["gone", "waiting"].contains(&str_at(line, "/state"));
    let number = |name: &str| figures[name].as_f64().filter(|_| says);
    let told = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let milliseconds = |name: &str| match number(name) {
        None => "-".to_owned(),
        Some(ms) if ms >= 1000.0 => format!("{:.1} s", ms / 1000.0),
        Some(ms) if ms >= 10.0 => format!("{ms:.0} ms"),
        Some(ms) => format!("{ms:.1} ms"),
    };
    // Services are told with their namespace, as the names that this command takes.
    let name = if line.get("pods").is_some() {
        format!("{}/{}", str_at(line, "/namespace"), str_at(line, "/name"))
    } else {
        str_at(line, "/name").to_owned()
    };
    [
        str_at(line, "/state").to_owned(),
        name,
        told(number("rate").map(|rate| format!("{rate:.1}/s"))),
        told(number("errorShare").map(|share| format!("{:.1} %", share * 100.0))),
        milliseconds("p50"),
        milliseconds("p95"),
        milliseconds("p99"),
        files(line, now),
        str_at(line, "/findings/0/text").to_owned(),
    ]
    .map(|cell| printable(&cell).chars().take(WIDEST).collect())
}

/// `v2 5m`, and why there is nothing newer.
fn files(line: &Value, now: Timestamp) -> String {
    let entries = line["sync"].as_array().map(Vec::as_slice).unwrap_or_default();
    let entry = |entry: &Value| {
        let version = match (entry["version"].as_str(), entry["hasContent"].as_bool()) {
            (Some(version), _) => version,
            (None, Some(true)) => "fallback",
            (None, _) => "none",
        };
        let since = str_at(entry, "/since").parse::<Timestamp>().ok();
        let age = since.map(|since| age(now.duration_since(since).as_secs()));
        let words = [Some(version.to_owned()), age, entry["failure"]["reason"].as_str().map(str::to_owned)];
        words.into_iter().flatten().collect::<Vec<_>>().join(" ")
    };
    entries.iter().map(entry).collect::<Vec<_>>().join(", ")
}

/// As kubectl tells ages.
fn age(seconds: i64) -> String {
    match seconds.max(0) {
        seconds if seconds < 120 => format!("{seconds}s"),
        seconds if seconds < 2 * 3600 => format!("{}m", seconds / 60),
        seconds if seconds < 2 * 86_400 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

fn row(cells: &[String; 9], widths: &[Option<usize>], columns: usize) -> String {
    let shown = cells
        .iter()
        .zip(widths)
        .enumerate()
        .filter_map(|(column, (cell, width))| Some((column, cell, (*width)?)));
    let padded = shown.map(|(column, cell, width)| {
        if NUMBERS.contains(&column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
    });
    let row = padded.collect::<Vec<_>>().join("  ");
    row.trim_end().chars().take(columns).collect()
}

fn colour(rank: usize) -> Style {
    match STATES[rank] {
        "elevated" | "slow" => AnsiColor::Yellow.on_default(),
        "failing" | "gone" => AnsiColor::Red.on_default(),
        _ => Style::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(name: &str, state: &str, p95: f64) -> Value {
        let figures = json!({"rate": 12.34, "errorShare": 0.015, "p50": 9.5, "p95": p95, "p99": null});
        json!({"namespace": "shop", "name": name, "state": state, "pods": {}, "figures": figures, "findings": []})
    }

    #[test]
    fn what_wants_to_be_looked_at_stands_first() {
        let view = json!({"services": [service("a", "good", 2000.0), service("b", "slow", 320.0)]});
        let plain = |sort| anstream::adapter::strip_str(&text(&view, sort, usize::MAX)).to_string();
        assert_eq!(
            plain(Sort::State),
            "STATE  NAME      RATE  ERRORS     P50     P95  P99  WHY\n\
             slow   shop/b  12.3/s   1.5 %  9.5 ms  320 ms    -\n\
             good   shop/a  12.3/s   1.5 %  9.5 ms   2.0 s    -\n"
        );
        assert!(plain(Sort::P95).lines().nth(1).unwrap().contains("shop/a"));
        assert!(is_troubled(&view) && !is_troubled(&json!({"podCards": [service("a", "elevated", 1.0)]})));
    }

    #[test]
    fn a_pods_files_are_told_by_their_version_and_only_where_a_pod_has_some() {
        let now: Timestamp = "2026-01-01T03:00:00Z".parse().unwrap();
        let entry = |since: &str| json!({"path": "/srv", "hasContent": true, "version": "v2", "since": since, "bad": []});
        for (sync, told) in [
            (json!([entry("2026-01-01T02:59:01Z"), entry("2026-01-01T00:10:00Z")]), "v2 59s, v2 2h"),
            (json!([{"hasContent": false, "failure": {"reason": "Denied"}}]), "none Denied"),
            (json!([{"hasContent": true}]), "fallback"),
            (json!(null), ""),
        ] {
            assert_eq!(files(&json!({ "sync": sync }), now), told);
        }
        let mut card = service("a", "good", 1.0);
        let head = |card: &Value| {
            text(&json!({"podCards": [card]}), Sort::State, usize::MAX).lines().next().unwrap().to_owned()
        };
        assert!(!head(&card).contains("FILES"));
        card["sync"] = json!([entry("2026-01-01T00:00:00Z")]);
        assert!(head(&card).contains("P99  FILES"));
    }

    /// A pod's own bytes once reached the terminal, and a text longer than a width may be ended the program.
    #[test]
    fn whatever_a_pod_says_it_is_one_line_without_control_characters() {
        let mut lying = service("a", "gone", 1.0);
        lying["findings"] = json!([{"text": format!("\u{1b}]0;owned\u{7}\n{}", "x".repeat(100_000))}]);
        let view = json!({ "services": [lying] });
        for (columns, longest) in [(usize::MAX, 400), (60, 60)] {
            let text = text(&view, Sort::State, columns);
            assert!(!text.contains("\u{1b}]0") && !text.contains('\u{7}'), "{text}");
            let plain = anstream::adapter::strip_str(&text).to_string();
            assert_eq!(plain.lines().count(), 2, "{plain}");
            assert!(plain.lines().all(|line| line.chars().count() <= longest), "{plain}");
        }
    }
}
