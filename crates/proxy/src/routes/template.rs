//! A path's template: what it has in common with the paths of other users, orders and days.

/// What stands for a segment that is an id.
const ID: &[u8] = b"{id}";

/// The longest template that makes a route, in bytes: a client chooses paths, and must not choose how much memory they take.
const LONGEST: usize = 200;

/// Writes the template of `path` to `template`: `/users/{id}/orders` of `/users/7/orders`. Returns whether there is one that
/// is not too long.
pub(crate) fn write(path: &[u8], template: &mut Vec<u8>) -> bool {
    template.clear();
    for (number, segment) in path.split(|byte| *byte == b'/').enumerate() {
        if number > 0 {
            template.push(b'/');
        }
        template.extend_from_slice(if is_id(segment) { ID } else { segment });
        if template.len() > LONGEST {
            return false;
        }
    }
    true
}

/// Whether a segment names one of many: a number, a date, a UUID, a hash, a token, `order-17`. What is not sure, such as
/// `v2` or `sha256`, is no id: there are few of a kind.
fn is_id(segment: &[u8]) -> bool {
    let mut seen = 0;
    let mut digits = 0;
    for byte in segment {
        let class = CLASSES[usize::from(*byte)];
        seen |= class;
        digits += usize::from(class & DIGIT);
    }
    let only = |classes: u8| seen & !classes == 0;
    let length = segment.len();
    let hexadecimal = only(DIGIT | HEX_UPPER | HEX_LOWER | DASH);
    if digits == 0 {
        // 16 letters from a to f are no word.
        return hexadecimal && length >= 16 && seen & DASH == 0;
    }
    if only(DIGIT | DASH | POINT) || hexadecimal && length >= 8 {
        return true;
    }
    let (upper, lower) = (seen & (UPPER | HEX_UPPER) != 0, seen & (LOWER | HEX_LOWER) != 0);
    // `GetUserV2Profile` is a name.
    let token = upper && lower && digits >= 2 && length >= 11 && only(!(POINT | OTHER));
    token || digits >= 4 || digits >= 3 && length >= 16 || ends_in_a_number(segment)
}

/// As `order-17` does, and `v2` does not.
fn ends_in_a_number(segment: &[u8]) -> bool {
    let digits = segment.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let before = segment[..segment.len() - digits].last();
    digits > 0 && matches!(before, Some(b'-' | b'_' | b':' | b'.' | b'='))
}

const DIGIT: u8 = 1;
const HEX_LOWER: u8 = 2;
const HEX_UPPER: u8 = 4;
const LOWER: u8 = 8;
const UPPER: u8 = 16;
const DASH: u8 = 32;
/// What stands between the parts of dates, times, numbers and addresses.
const POINT: u8 = 64;
const OTHER: u8 = 128;

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [OTHER; 256];
    let mut byte = 0_u8;
    loop {
        classes[byte as usize] = match byte {
            b'0'..=b'9' => DIGIT,
            b'a'..=b'f' => HEX_LOWER,
            b'A'..=b'F' => HEX_UPPER,
            b'g'..=b'z' => LOWER,
            b'G'..=b'Z' => UPPER,
            b'-' | b'_' => DASH,
            b'.' | b',' | b':' | b'+' | b'~' | b';' => POINT,
            _ => OTHER,
        };
        if byte == u8::MAX {
            return classes;
        }
        byte += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(target: &str) -> Option<String> {
        let mut template = b"of another".to_vec();
        let short = write(target.as_bytes(), &mut template);
        short.then(|| String::from_utf8(template).unwrap())
    }

    #[test]
    fn segments_that_name_one_of_many_are_ids() {
        for id in [
            "0",
            "12345678901234567890",
            "-7",
            "3.14",
            "2026-11-21",
            "2026-11-21_15:30",
            "10.0.0.7",
            "550e8400-e29b-41d4-a716-446655440000",
            "550E8400E29B41D4A716446655440000",
            "da39a3ee",
            "da39a3ee5e6b4b0d3255bfef95601890afd80709",
            "deadbeefdeadbeef",
            "507f1f77bcf86cd799439011",
            "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "main.4f3a2b1c.js",
            "dQw4w9WgXcQ",
            "V1StGXR8_Z5jdHi6B-myT",
            "order-17",
            "user_9",
            "INV2026001",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
        ] {
            assert_eq!(template(&format!("/a/{id}/b")).as_deref(), Some("/a/{id}/b"), "{id}");
        }
    }

    #[test]
    fn words_and_versions_are_themselves() {
        for word in [
            "",
            "users",
            "v1",
            "v1beta2",
            "oauth2",
            "sha256",
            "s3",
            "cafe",
            "facade",
            "decade",
            "index.html",
            "app.min.js",
            "utf8",
            "log4j",
            "a-b_c",
            "%7Buser%7D",
            "feed-back",
            "grpc.health.v1.Health",
            "GetUserV2Profile",
            "*",
        ] {
            let path = format!("/x/{word}");
            assert_eq!(template(&path), Some(path.clone()));
        }
    }

    #[test]
    fn what_a_client_makes_long_is_no_template() {
        assert_eq!(template(&format!("/{}", "x".repeat(300))), None);
        assert_eq!(template(&"/a".repeat(200)), None);
        assert_eq!(template(&format!("/{}", "1".repeat(3000))).as_deref(), Some("/{id}"));
    }
}
