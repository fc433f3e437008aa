//! The rules in the language of `nft`, which takes this as a file.

use std::fmt;

use crate::rules::{Chain, Hook, Match, Rule, TABLE, Verdict, Wanted};

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {TABLE} {{")?;
        for (number, chain) in self.chains().iter().enumerate() {
            write!(f, "{}{chain}", if number > 0 { "\n" } else { "" })?;
        }
        writeln!(f, "}}")
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hook = match self.hook {
            Hook::Prerouting => "prerouting",
            Hook::Output => "output",
        };
        writeln!(f, "\tchain {} {{\n\t\ttype nat hook {hook} priority -100; policy accept;", self.name)?;
        for rule in &self.rules {
            writeln!(f, "\t\t{rule}")?;
        }
        writeln!(f, "\t}}")
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A port of TCP says that it is TCP.
        let has_port = self.matches.iter().any(|found| matches!(found, Match::Port(_)));
        for found in self.matches.iter().filter(|found| !(has_port && **found == Match::Tcp)) {
            write!(f, "{found} ")?;
        }
        match self.verdict {
            Verdict::LeaveAlone => f.write_str("return"),
            Verdict::Redirect(port) => write!(f, "redirect to :{port}"),
        }
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FromLoopback => f.write_str("iif \"lo\""),
            Self::ToLoopback => f.write_str("oif \"lo\""),
            Self::Tcp => f.write_str("meta l4proto tcp"),
            Self::Port(port) => write!(f, "tcp dport {port}"),
            Self::User(uid) => write!(f, "meta skuid {uid}"),
            Self::To(range) if range.first().is_ipv4() => write!(f, "ip daddr {range}"),
            Self::To(range) => write!(f, "ip6 daddr {range}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Inbound;

    #[test]
    fn everything_but_what_is_left_alone_is_redirected() {
        let wanted = Wanted { proxy_uid: 15180, ..Wanted::default() };
        insta::assert_snapshot!(wanted);
    }

    #[test]
    fn what_is_skipped_comes_first() {
        let wanted = Wanted {
            proxy_uid: 1_000_659_999,
            inbound: Inbound::Only(vec![8080, 8443]),
            skip_inbound_ports: vec![22],
            skip_outbound_ports: vec![5432],
            skip_outbound_cidrs: vec!["10.0.0.0/8".parse().unwrap(), "fd00::1".parse().unwrap()],
            skip_outbound_uids: vec![0, 101],
        };
        insta::assert_snapshot!(wanted);
    }
}
