//! Values of flags that are wrong whatever they are for: told before any work is done.

/// A namespace's name, as RFC 1123 has labels.
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-label-names>
pub(crate) fn namespace(text: &str) -> Result<String, String> {
    let within = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_label = (1..=63).contains(&text.len()) && text.chars().all(within);
    if is_label && !text.starts_with('-') && !text.ends_with('-') {
        return Ok(text.to_owned());
    }
    Err("a namespace's name takes 1 to 63 of a-z, 0-9 and -, none of which is - at an end".to_owned())
}

/// An image reference, which a registry alone can judge; an empty one, as of a variable that is not set, is none in any case.
pub(crate) fn image(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(char::is_whitespace) {
        return Err("an image is named as registry.example/outrigger/sidecar:1.2.3".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_api_server_takes_is_refused() {
        for wrong in ["", "Shop", "bad_ns", "-a", "a-", &"a".repeat(64)] {
            assert!(namespace(wrong).is_err(), "{wrong}");
        }
        assert_eq!(namespace("shop-1").unwrap(), "shop-1");
        assert!(image("").is_err() && image("a b").is_err());
        assert_eq!(image("outrigger/sidecar@sha256:0").unwrap(), "outrigger/sidecar@sha256:0");
    }
}
