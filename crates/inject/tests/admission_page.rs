//! docs/admission.md names tests and lines; each must be there.

#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test is the test's report")]

use std::path::Path;

#[test]
fn every_test_that_the_page_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join("docs/admission.md")).unwrap();
    let named: Vec<_> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|code| code.split_once("::"))
        .filter(|(file, _)| file.contains('.'))
        .collect();
    assert!(named.len() > 60, "{} are named", named.len());
    let missing = named.iter().filter(|(file, what)| {
        let text = std::fs::read_to_string(root.join(file)).unwrap_or_default();
        let wanted = if is_rust(file) { format!("fn {what}(") } else { (*what).to_owned() };
        !text.contains(&wanted)
    });
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&(&str, &str)>::new());
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| ") && line[2..].starts_with(|c: char| c.is_ascii_digit()));
    assert_eq!(rows.count(), 31 + 25, "31 rules and 25 bugs");
}

fn is_rust(file: &str) -> bool {
    Path::new(file).extension().is_some_and(|extension| extension == "rs")
}
