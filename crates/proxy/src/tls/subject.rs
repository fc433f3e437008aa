//! Whom a certificate is made out to, as text: RFC 4514, the most specific part first.

use std::fmt::Write;

use http::HeaderValue;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{AttributeTypeAndValue, FromDer, X509Certificate};

/// The subject of a certificate. `None` where it has none that is text.
pub(crate) fn of(certificate: &[u8]) -> Option<HeaderValue> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let mut parts = Vec::new();
    for part in certificate.subject().iter_rdn() {
        let attributes: Option<Vec<_>> = part.iter().map(attribute).collect();
        parts.push(attributes?.join("+"));
    }
    parts.reverse();
    HeaderValue::from_str(&parts.join(",")).ok().filter(|subject| !subject.is_empty())
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    let kind = attribute.attr_type();
    let name = oid2abbrev(kind, oid_registry()).map_or_else(|_| kind.to_id_string(), str::to_owned);
    Some(format!("{name}={}", escaped(attribute.as_str().ok()?)))
}

/// With what would end or divide the value, and all that is not printable ASCII, as `\` and two hexadecimal digits for each byte of
/// UTF-8: RFC 4514 2.4 allows it for any, and in a header nothing else is safe.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for (at, byte) in value.bytes().enumerate() {
        let at_an_end = at == 0 || at + 1 == value.len();
        let special = b"\"+,;<>\\=".contains(&byte) || (at_an_end && matches!(byte, b' ' | b'#'));
        if special || !matches!(byte, b' '..=b'~') {
            write!(text, "\\{byte:02X}").expect("a String takes all that is written");
        } else {
            text.push(char::from(byte));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn subject(names: &[(DnType, &str)]) -> Option<HeaderValue> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), *value);
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        of(certificate.der())
    }

    #[test]
    fn subjects_are_text_that_a_header_can_hold() {
        let names = [(DnType::OrganizationName, "Shop, Inc."), (DnType::CommonName, "cart")];
        assert_eq!(subject(&names).unwrap(), r"CN=cart,O=Shop\2C Inc.");
        let forged = [(DnType::CommonName, "a,CN=admin\r\nX-User: root")];
        assert_eq!(subject(&forged).unwrap(), r"CN=a\2CCN\3Dadmin\0D\0AX-User: root");
        assert_eq!(subject(&[(DnType::CommonName, " ü#")]).unwrap(), r"CN=\20\C3\BC\23");
        assert_eq!(subject(&[]), None);
    }

    #[test]
    fn what_is_no_certificate_has_no_subject() {
        assert_eq!(of(b"no certificate"), None);
    }
}
