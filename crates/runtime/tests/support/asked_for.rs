//! The metrics that the chart's rules and dashboards ask for, for the tests of those who export them: a rule with a metric that was
//! renamed finds nothing, and nobody is told.

use std::collections::BTreeSet;

/// The names, without the ends that a family's series have beside it. Names with a colon are the rules' own.
fn metrics() -> BTreeSet<String> {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/outrigger");
    let files = ["rules", "dashboards"].into_iter().flat_map(|directory| {
        let files = std::fs::read_dir(format!("{chart}/{directory}")).expect("the chart has the directory");
        files.map(|file| file.expect("the directory can be read").path())
    });
    let texts: Vec<_> = files.map(|file| std::fs::read_to_string(file).expect("the file is text")).collect();
    let words = texts.iter().flat_map(|text| {
        text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_' || letter == ':'))
    });
    let names: BTreeSet<_> = words.filter(|word| word.starts_with("outrigger_")).map(family).collect();
    assert!(names.len() > 30, "only {names:?} are found");
    names
}

/// Of those that `are_ours`, none that the exposition does not have.
pub(crate) fn assert_exported(exposition: &str, are_ours: impl Fn(&str) -> bool) {
    let ours: Vec<_> = metrics().into_iter().filter(|name| are_ours(name)).collect();
    assert!(!ours.is_empty(), "nothing of ours is asked for");
    let unknown: Vec<_> =
        ours.iter().filter(|name| !exposition.contains(&format!("# TYPE {name} "))).collect();
    assert!(unknown.is_empty(), "rules or dashboards ask for {unknown:?}, which is not exported");
}

fn family(name: &str) -> String {
    let ends = ["_total", "_bucket", "_count", "_sum", "_info"];
    ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned()
}
