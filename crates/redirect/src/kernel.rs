//! Hands a batch to the kernel, and says what it makes of it.

use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

use crate::expressions;
use crate::message::{Batch, HEADER};
use crate::rules::Wanted;

/// The kernel answers before `send` returns; this is for one that does not know the question.
const PATIENCE: Duration = Duration::from_secs(2);
/// Type of an answer, `NLMSG_ERROR`; without an error it is the acknowledgement.
const ANSWER: u16 = 2;

/// Why the rules could not be written or removed. None of them was: a batch is done whole or not at all.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The process may not change rules.
    #[error(
        "failed to {0} nftables rules: not permitted. It takes the capability NET_ADMIN in the pod's network namespace; \
         without it, inject with interception: ports"
    )]
    NotPermitted(&'static str),
    /// There is no nftables.
    #[error(
        "failed to {what} nftables rules: this kernel ({kernel}) has no nftables ({lacking}). Load the module {module} on the node, or \
         inject with interception: ports"
    )]
    NoNftables {
        /// `write` or `remove`.
        what: &'static str,
        /// The kernel's release.
        kernel: String,
        /// What it does not know.
        lacking: String,
        /// What would bring it.
        module: &'static str,
    },
    /// Anything else.
    #[error("failed to {what} nftables rules: {about}: {error}")]
    Refused {
        /// `write` or `remove`.
        what: &'static str,
        /// What the kernel refused.
        about: String,
        /// Why.
        error: Errno,
    },
}

/// Writes the table, in the place of one that is there.
pub fn write(wanted: &Wanted) -> Result<(), KernelError> {
    run("write", &expressions::replace(wanted))
}

/// Removes the table, if it is there.
pub fn remove() -> Result<(), KernelError> {
    run("remove", &expressions::remove())
}

fn run(what: &'static str, batch: &Batch) -> Result<(), KernelError> {
    let named = |about: &str| {
        let about = about.to_owned();
        move |error| explain(what, about, error)
    };
    let socket = named("netlink socket");
    let fd =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::NETFILTER))
            .map_err(socket)?;
    set_socket_timeout(&fd, Timeout::Recv, Some(PATIENCE)).map_err(named("netlink socket"))?;
    sendto(&fd, &batch.bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))
        .map_err(named("the batch"))?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let (_, length) =
            recv(&fd, &mut *buffer, RecvFlags::empty()).map_err(named("the kernel's answer"))?;
        if let Some((number, errno)) = first_answer(&buffer[..length]) {
            if errno == 0 {
                return Ok(());
            }
            let about = number.checked_sub(1).and_then(|index| batch.about.get(index));
            let about = about.map_or("a message", String::as_str);
            return Err(named(about)(Errno::from_raw_os_error(errno)));
        }
    }
}

/// The first answer in what came, as the number of the message that it is about and an error; 0 for none.
///
/// The first counts: the last message alone asks for an acknowledgement, so whatever comes before it is a refusal.
fn first_answer(mut bytes: &[u8]) -> Option<(usize, i32)> {
    while bytes.len() >= HEADER + 4 {
        let number = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
        let length = usize::try_from(number(0)?).ok()?;
        if u16::from_ne_bytes(*bytes[4..].first_chunk()?) == ANSWER {
            return Some((usize::try_from(number(8)?).ok()?, -number(HEADER)?.cast_signed()));
        }
        bytes = bytes.get(length.next_multiple_of(4).max(HEADER)..)?;
    }
    None
}

fn explain(what: &'static str, about: String, error: Errno) -> KernelError {
    let lacking =
        |module| KernelError::NoNftables { what, kernel: release(), lacking: about.clone(), module };
    match error {
        Errno::PERM | Errno::ACCESS => KernelError::NotPermitted(what),
        // No netlink for netfilter; no nftables behind it.
        Errno::PROTONOSUPPORT | Errno::OPNOTSUPP => lacking("nf_tables"),
        Errno::AFNOSUPPORT => lacking("nf_tables_inet"),
        // A kind of chain or an expression that nobody knows.
        Errno::NOENT if about.starts_with("chain") => lacking("nft_chain_nat, from Linux 5.2 on"),
        Errno::NOENT => lacking("nft_redir"),
        _ => KernelError::Refused { what, about, error },
    }
}

fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_lacks_is_named() {
        for (about, error, words) in [
            (
                "netlink socket",
                Errno::PROTONOSUPPORT,
                "has no nftables (netlink socket). Load the module nf_tables ",
            ),
            ("chain inbound (type nat)", Errno::NOENT, "nft_chain_nat"),
            ("rule \"meta l4proto tcp redirect to :15180\"", Errno::NOENT, "nft_redir"),
            ("the batch", Errno::PERM, "NET_ADMIN"),
            ("the batch", Errno::NOBUFS, "the batch: "),
        ] {
            let message = explain("write", about.to_owned(), error).to_string();
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn an_answer_that_is_cut_off_is_none() {
        assert_eq!(first_answer(&[]), None);
        assert_eq!(first_answer(&[0; 19]), None);
        assert_eq!(first_answer(&[255; 64]), None);
    }
}
