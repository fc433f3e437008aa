//! The part of a page that a program writes, between two comments.

use std::fs;
use std::path::Path;

use anyhow::Context;

/// Replaces what stands between `<!-- NAME: begin -->` and `<!-- NAME: end -->`.
pub(crate) fn write(page: &Path, name: &str, section: &str) -> anyhow::Result<()> {
    let text = fs::read_to_string(page).with_context(|| format!("failed to read {}", page.display()))?;
    let text = replaced(&text, name, section)
        .with_context(|| format!("{} has no markers <!-- {name}: begin --> and end", page.display()))?;
    fs::write(page, text).with_context(|| format!("failed to write {}", page.display()))
}

fn replaced(text: &str, name: &str, section: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{section}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_markers_changes() {
        let page = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n";
        assert_eq!(replaced(page, "x", "new\n").unwrap(), "a\n<!-- x: begin -->\nnew\n<!-- x: end -->\nb\n");
        assert_eq!(replaced(page, "y", "new\n"), None);
    }
}
