//! Rules as nftables' small machine runs them: values are loaded into a register and compared, and the last expression decides.
//!
//! The numbers are the kernel's: <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/netfilter/nf_tables.h>.

use crate::message::{Attributes, Batch, Kind};
use crate::rules::{Chain, Hook, Match, Rule, TABLE, Verdict, Wanted, octets};

/// The register that decides what becomes of a packet, and the one that values are loaded into.
const VERDICT: u32 = 0;
const VALUE: u32 = 1;

/// Keys of `meta`.
const IIF: u32 = 4;
const OIF: u32 = 5;
const SKUID: u32 = 10;
const NFPROTO: u32 = 15;
const L4PROTO: u32 = 16;

/// Loopback is the first interface of every network namespace.
const LOOPBACK: u32 = 1;
const TCP: u8 = 6;

/// `NF_IP_PRI_NAT_DST`, where destinations are changed.
const PRIORITY: i32 = -100;
/// `NFT_RETURN`: of a base chain, the policy decides, and ours is to accept.
const RETURN: i32 = -5;

/// The batch that puts the table in the place of one that may be there. It is created first, because the kernel deletes none that is
/// not there, and the batch would fail.
pub(crate) fn replace(wanted: &Wanted) -> Batch {
    let mut batch = removed();
    table(&mut batch, Kind::NewTable);
    for chain in wanted.chains() {
        self::chain(&mut batch, &chain);
        for rule in &chain.rules {
            batch.add(Kind::NewRule, format!("rule \"{rule}\""), |message| {
                message.text(1, TABLE);
                message.text(2, chain.name);
                message.nested(4, |expressions| self::rule(expressions, rule));
            });
        }
    }
    batch.finish()
}

/// The batch that leaves no table.
pub(crate) fn remove() -> Batch {
    removed().finish()
}

fn removed() -> Batch {
    let mut batch = Batch::new();
    table(&mut batch, Kind::NewTable);
    table(&mut batch, Kind::DeleteTable);
    batch
}

fn table(batch: &mut Batch, kind: Kind) {
    batch.add(kind, format!("table inet {TABLE}"), |message| message.text(1, TABLE));
}

fn chain(batch: &mut Batch, chain: &Chain) {
    let hook = match chain.hook {
        Hook::Prerouting => 0,
        Hook::Output => 3,
    };
    batch.add(Kind::NewChain, format!("chain {} (type nat)", chain.name), |message| {
        message.text(1, TABLE);
        message.text(3, chain.name);
        message.nested(4, |place| {
            place.number(1, hook);
            place.number(2, PRIORITY.cast_unsigned());
        });
        message.text(7, "nat");
    });
}

fn rule(expressions: &mut Attributes, rule: &Rule) {
    for found in &rule.matches {
        match *found {
            Match::FromLoopback => meta(expressions, IIF, &LOOPBACK.to_ne_bytes()),
            Match::ToLoopback => meta(expressions, OIF, &LOOPBACK.to_ne_bytes()),
            Match::User(uid) => meta(expressions, SKUID, &uid.to_ne_bytes()),
            Match::Tcp => meta(expressions, L4PROTO, &[TCP]),
            // Behind the ports' head: the destination's.
            Match::Port(port) => {
                payload(expressions, 2, 2, 2);
                compare(expressions, &port.to_be_bytes());
            }
            Match::To(range) => {
                let (first, mask) = (octets(range.first()), octets(range.mask()));
                let (family, offset) = if first.len() == 4 { (2_u8, 16) } else { (10, 24) };
                meta(expressions, NFPROTO, &[family]);
                payload(expressions, 1, offset, u32::try_from(first.len()).unwrap_or(u32::MAX));
                bitwise(expressions, &mask);
                compare(expressions, &first);
            }
        }
    }
    match rule.verdict {
        Verdict::LeaveAlone => expression(expressions, "immediate", |data| {
            data.number(1, VERDICT);
            data.nested(2, |value| value.nested(2, |verdict| verdict.number(1, RETURN.cast_unsigned())));
        }),
        Verdict::Redirect(port) => {
            expression(expressions, "immediate", |data| {
                data.number(1, VALUE);
                data.nested(2, |value| value.bytes(1, &port.to_be_bytes()));
            });
            expression(expressions, "redir", |data| data.number(1, VALUE));
        }
    }
}

fn expression(expressions: &mut Attributes, name: &str, data: impl FnOnce(&mut Attributes)) {
    expressions.nested(1, |element| {
        element.text(1, name);
        element.nested(2, data);
    });
}

/// That a packet's `key` has this value.
fn meta(expressions: &mut Attributes, key: u32, value: &[u8]) {
    expression(expressions, "meta", |data| {
        data.number(1, VALUE);
        data.number(2, key);
    });
    compare(expressions, value);
}

/// Loads bytes of a packet; `base` is 1 for the network's header and 2 for the transport's.
fn payload(expressions: &mut Attributes, base: u32, offset: u32, length: u32) {
    expression(expressions, "payload", |data| {
        data.number(1, VALUE);
        data.number(2, base);
        data.number(3, offset);
        data.number(4, length);
    });
}

fn bitwise(expressions: &mut Attributes, mask: &[u8]) {
    expression(expressions, "bitwise", |data| {
        data.number(1, VALUE);
        data.number(2, VALUE);
        data.number(3, u32::try_from(mask.len()).unwrap_or(u32::MAX));
        data.nested(4, |value| value.bytes(1, mask));
        data.nested(5, |value| value.bytes(1, &vec![0; mask.len()]));
    });
}

fn compare(expressions: &mut Attributes, value: &[u8]) {
    expression(expressions, "cmp", |data| {
        data.number(1, VALUE);
        data.number(2, 0);
        data.nested(3, |right| right.bytes(1, value));
    });
}
