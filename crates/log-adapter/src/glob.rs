//! File patterns: `*` and `?` within a name, `**/` for any depth.

/// Whether `path`, relative to the source's directory, is meant by `pattern`. On a mismatch the last `**` takes one directory more, so the
/// time is at worst the product of both lengths.
pub fn matches(pattern: &str, path: &str) -> bool {
    let (parts, names): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), path.split('/').collect());
    let (mut p, mut n, mut deep) = (0, 0, None);
    while let Some(name) = names.get(n) {
        match parts.get(p) {
            // The last part means the file.
            Some(&"**") if p + 1 < parts.len() => {
                deep = Some((p, n));
                p += 1;
            }
            Some(part) if matches_name(part.as_bytes(), name.as_bytes()) => (p, n) = (p + 1, n + 1),
            _ => match deep {
                Some((at, taken)) => {
                    deep = Some((at, taken + 1));
                    (p, n) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    p == parts.len()
}

/// How many directories deep a file of this pattern can lie; none for any.
pub fn depth(pattern: &str) -> Option<usize> {
    (!pattern.contains("**")).then(|| pattern.matches('/').count())
}

/// On a mismatch the last star takes one byte more, so the time is at worst the product of both lengths.
fn matches_name(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(b'?') => (p, n) = (p + 1, n + 1),
            Some(byte) if *byte == name[n] => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (p, n) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_a_shell_means() {
        for (pattern, path, wanted) in [
            ("*.log", "app.log", true),
            ("*.log", "app.log.1", false),
            ("*.log", "sub/app.log", false),
            ("app-?.log", "app-1.log", true),
            ("app-?.log", "app-.log", false),
            ("*/*.log", "sub/app.log", true),
            ("**/*.log", "a/b/c.log", true),
            ("**/*.log", "c.log", true),
            ("a/**/c.log", "a/b/b/c.log", true),
            ("a/**/c.log", "b/c.log", false),
            ("**/a/**/b/*.log", "x/a/y/a/z/b/c.log", true),
            ("**/a/**/b/*.log", "x/b/y/b/a/c.log", false),
            ("**/**/*.log", "c.log", true),
            ("**/**/*.log", "a/c.log", true),
            ("a/*.log", "a/b/c.log", false),
            ("a/**", "a/b", true),
            ("a/**", "a/b/c", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b", "ab_", false),
            ("app.log", "app.log", true),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, path), wanted, "{pattern} {path}");
        }
    }

    /// With each `**` tried at each depth it would take years.
    #[test]
    fn many_deep_patterns_take_no_longer_than_one() {
        let path = "a/".repeat(200) + "b.txt";
        assert!(!matches(&("**/a/".repeat(40) + "*.log"), &path));
        assert!(matches(&("**/a/".repeat(40) + "*.txt"), &path));
    }

    #[test]
    fn depth_is_bounded_unless_asked() {
        assert_eq!(depth("*.log"), Some(0));
        assert_eq!(depth("a/*.log"), Some(1));
        assert_eq!(depth("**/*.log"), None);
    }
}
