//! A range of addresses, as `10.0.0.0/8`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

#[cfg(feature = "crd")]
use crate::schema::rule;

/// A range of addresses (RFC 4632, RFC 4291 section 2.3). One address alone is a range too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    first: IpAddr,
    /// How many leading bits all addresses of the range share.
    bits: u8,
}

/// Why a text is no range of addresses.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no range of addresses: an address, and the bits that count, as 10.0.0.0/8 or fd00::/8")]
pub struct CidrError(String);

/// The bits that all IPv4 addresses share that are written as those of IPv6.
const MAPPED_BITS: u8 = 96;

impl Cidr {
    /// Its first address.
    pub const fn first(&self) -> IpAddr {
        self.first
    }

    /// The bits in which its addresses are alike, as a mask of the same family.
    pub fn mask(&self) -> IpAddr {
        let shift = |width: u8| u32::from(width - self.bits);
        match self.first {
            IpAddr::V4(_) => Ipv4Addr::from(u32::MAX.checked_shl(shift(32)).unwrap_or(0)).into(),
            IpAddr::V6(_) => Ipv6Addr::from(u128::MAX.checked_shl(shift(128)).unwrap_or(0)).into(),
        }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    /// Bits beyond the mask are dropped, as routers and firewalls do: `10.1.2.3/8` is `10.0.0.0/8`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || CidrError(text.to_owned());
        let (address, bits) = text.split_once('/').map_or((text, None), |(first, bits)| (first, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits: u8 = match bits {
            // `parse` takes a sign too.
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                bits.parse().map_err(|_| error())?
            }
            Some(_) => return Err(error()),
            None => width,
        };
        if bits > width {
            return Err(error());
        }
        // Packets to an IPv4 address that is written as one of IPv6 (RFC 4291 section 2.5.5.2) are IPv4's.
        let (address, bits) = match (address, address.to_canonical(), bits.checked_sub(MAPPED_BITS)) {
            (IpAddr::V6(_), mapped @ IpAddr::V4(_), Some(bits)) => (mapped, bits),
            _ => (address, bits),
        };
        let range = Self { first: address, bits };
        let first = match (address, range.mask()) {
            (IpAddr::V4(address), IpAddr::V4(mask)) => (address & mask).into(),
            (IpAddr::V6(address), IpAddr::V6(mask)) => (address & mask).into(),
            _ => address,
        };
        Ok(Self { first, bits })
    }
}

impl TryFrom<String> for Cidr {
    type Error = CidrError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(range: Cidr) -> Self {
        range.to_string()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

#[cfg(feature = "crd")]
impl schemars::JsonSchema for Cidr {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Cidr".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        // Not isCIDR, which came with Kubernetes 1.30. Of IPv6 only the letters are looked at; `from_str` knows the rest.
        schemars::json_schema!({
            "type": "string",
            "maxLength": 64,
            "x-kubernetes-validations": [rule(
                "self.matches('^((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])[.]){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(/([0-9]|[12][0-9]|3[0-2]))?$') \
                 || self.matches('^[0-9a-fA-F:]*:[0-9a-fA-F:.]*(/([0-9]{1,2}|1[01][0-9]|12[0-8]))?$')",
                "it takes an address or a range of them, as 10.0.0.0/8 or fd00::/8",
            )],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_written() {
        for (text, written, mask) in [
            ("10.1.2.3/8", "10.0.0.0/8", "255.0.0.0"),
            ("0.0.0.0/0", "0.0.0.0/0", "0.0.0.0"),
            ("192.0.2.7", "192.0.2.7/32", "255.255.255.255"),
            ("fd00:1::1/8", "fd00::/8", "ff00::"),
            ("::/0", "::/0", "::"),
            ("::ffff:10.1.2.3/104", "10.0.0.0/8", "255.0.0.0"),
            ("::ffff:0:0/95", "::fffe:0:0/95", "ffff:ffff:ffff:ffff:ffff:fffe::"),
            ("2001:db8::1", "2001:db8::1/128", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ] {
            let range: Cidr = text.parse().unwrap();
            assert_eq!(
                (range.to_string(), range.mask().to_string()),
                (written.into(), mask.into()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "fd00::/129", "api.shop/8"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }
}
