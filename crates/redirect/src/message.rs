//! Netlink messages, byte by byte: <https://docs.kernel.org/userspace-api/netlink/intro.html>.

/// `NETLINK_NETFILTER`'s number for nftables.
const NFTABLES: u16 = 10;

const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const NESTED: u16 = 0x8000;

/// `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;

/// The family `inet`, `NFPROTO_INET`.
const INET: u8 = 1;

/// What a message does, with the kernel's number for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    NewTable = 0,
    DeleteTable = 2,
    NewChain = 3,
    NewRule = 6,
}

/// A batch of messages, of which the kernel does all or none.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    /// What each message is about, by its sequence number less one.
    pub(crate) about: Vec<String>,
    last: usize,
}

impl Batch {
    pub(crate) fn new() -> Self {
        let mut batch = Self::default();
        batch.frame(0x10, REQUEST, 0, NFTABLES, |_| {});
        batch.about.push("the batch".to_owned());
        batch
    }

    /// Adds a message. `about` names it where the kernel refuses it.
    pub(crate) fn add(&mut self, kind: Kind, about: String, content: impl FnOnce(&mut Attributes)) {
        let flags = match kind {
            Kind::DeleteTable => REQUEST,
            Kind::NewRule => REQUEST | CREATE | APPEND,
            Kind::NewTable | Kind::NewChain => REQUEST | CREATE,
        };
        self.last = self.bytes.len();
        self.frame(NFTABLES << 8 | kind as u16, flags, INET, 0, content);
        self.about.push(about);
    }

    /// Ends the batch. The kernel tells of each message that it refuses, and acknowledges the last.
    pub(crate) fn finish(mut self) -> Self {
        let flags = self.last + 6;
        self.bytes[flags] |= ACKNOWLEDGE.to_ne_bytes()[usize::from(cfg!(target_endian = "big"))];
        self.frame(0x11, REQUEST, 0, NFTABLES, |_| {});
        self.about.push("the batch".to_owned());
        self
    }

    fn frame(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        resource: u16,
        content: impl FnOnce(&mut Attributes),
    ) {
        let number = u32::try_from(self.about.len() + 1).unwrap_or(u32::MAX);
        let mut attributes = Attributes(Vec::new());
        content(&mut attributes);
        // `struct nfgenmsg` follows the header.
        let length = u32::try_from(HEADER + 4 + attributes.0.len()).unwrap_or(u32::MAX);
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(number.to_ne_bytes());
        self.bytes.extend(0_u32.to_ne_bytes());
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        self.bytes.extend(attributes.0);
    }
}

/// Attributes one after the other, each padded to four bytes.
#[derive(Debug)]
pub(crate) struct Attributes(Vec<u8>);

impl Attributes {
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// Nftables' numbers are big-endian, unlike those of the frames.
    pub(crate) fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat());
    }

    pub(crate) fn nested(&mut self, kind: u16, content: impl FnOnce(&mut Self)) {
        let mut inner = Self(Vec::new());
        content(&mut inner);
        self.bytes(NESTED | kind, &inner.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_their_length_is_not() {
        let mut attributes = Attributes(Vec::new());
        attributes.nested(2, |inner| inner.text(1, "ab"));
        let length = |length: u16| length.to_ne_bytes();
        let wanted = [length(12), (NESTED | 2).to_ne_bytes(), length(7), length(1)].concat();
        assert_eq!(attributes.0, [&wanted[..], b"ab\0\0"].concat());
    }
}
