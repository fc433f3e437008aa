//! File patterns: `*` and `?` within a name, `**/` for any depth.

/// Whether `path`, relative to the source's directory, is meant by `pattern`.
pub fn matches(pattern: &str, path: &str) -> bool {
    match pattern.split_once('/') {
        Some(("**", rest)) => {
            let mut below = Some(path);
            while let Some(here) = below {
                if matches(rest, here) {
                    return true;
                }
                below = here.split_once('/').map(|(_, deeper)| deeper);
            }
            false
        }
        Some((first, rest)) => path.split_once('/').is_some_and(|(name, deeper)| {
            matches_name(first.as_bytes(), name.as_bytes()) && matches(rest, deeper)
        }),
        None => !path.contains('/') && matches_name(pattern.as_bytes(), path.as_bytes()),
    }
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
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b", "ab_", false),
            ("app.log", "app.log", true),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, path), wanted, "{pattern} {path}");
        }
    }

    #[test]
    fn depth_is_bounded_unless_asked() {
        assert_eq!(depth("*.log"), Some(0));
        assert_eq!(depth("a/*.log"), Some(1));
        assert_eq!(depth("**/*.log"), None);
    }
}
