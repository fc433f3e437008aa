//! Users and the hashes of their passwords, as `htpasswd` files have them.

use std::collections::HashMap;
use std::sync::LazyLock;

use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params};

/// The most memory that one hash by argon2 may take, in KiB: with more, the proxy could reach its limit of 64 MiB. More than the 19 MiB
/// that OWASP asks for.
const MOST_MEMORY: u32 = 32 * 1024;
/// The most passes over it.
const MOST_PASSES: u32 = 8;
/// The highest cost of bcrypt that is taken: about a second, and twice that for each further step.
const MOST_COST: u32 = 14;

/// The users of one file. Without a `Debug` that shows hashes.
pub(super) struct Users {
    hashes: HashMap<String, Hash>,
    /// What is compared for a name that nobody has.
    decoy: Option<Hash>,
}

#[derive(Clone)]
enum Hash {
    Bcrypt(String),
    Argon2(Box<PasswordHash>),
}

/// Why a line is no user. Without a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} {why}")]
pub struct BadLine {
    line: usize,
    why: &'static str,
}

impl Users {
    /// Nobody.
    pub(super) fn none() -> Self {
        Self { hashes: HashMap::new(), decoy: None }
    }

    /// Reads `name:hash` of each line. Empty ones, and those that begin with `#`, say nothing.
    pub(super) fn parse(text: &str) -> Result<Self, BadLine> {
        let mut hashes = HashMap::new();
        let lines = text.lines().map(str::trim_end).enumerate();
        for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let bad = |why| BadLine { line: number + 1, why };
            let (name, hash) = line.split_once(':').ok_or(bad("has no `:` between a name and a hash"))?;
            // It stands in a header, and in a credential before a `:`.
            if name.is_empty() || !name.bytes().all(|byte| matches!(byte, b'!'..=b'~')) {
                return Err(bad("has a name that is not printable ASCII"));
            }
            if hashes.insert(name.to_owned(), Hash::parse(hash).map_err(bad)?).is_some() {
                return Err(bad("has a name that another line has too"));
            }
        }
        let decoy = hashes.values().next().cloned();
        if decoy.is_none() {
            Err(BadLine { line: 1, why: "has no user, nor has another" })
        } else {
            Ok(Self { hashes, decoy })
        }
    }

    /// Whether somebody of this name has this password. Takes the time of one hash, tens of milliseconds, whoever is asked for: else it
    /// would tell which names there are.
    pub(super) fn has(&self, name: &str, password: &[u8]) -> bool {
        let known = self.hashes.get(name);
        let is_right = known.or(self.decoy.as_ref()).is_some_and(|hash| hash.is_of(password));
        known.is_some() && is_right
    }
}

impl Hash {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text.starts_with("$argon2") {
            const WRONG: &str = "has a hash that is no argon2 in the PHC form";
            let hash = PasswordHash::new(text).map_err(|_| WRONG)?;
            let params = Params::try_from(&hash).map_err(|_| WRONG)?;
            if hash.salt.is_none() || hash.hash.is_none() {
                return Err(WRONG);
            }
            if params.m_cost() > MOST_MEMORY || params.t_cost() > MOST_PASSES {
                return Err("has an argon2 of more than 32 MiB (m=32768) or 8 passes (t=8)");
            }
            return Ok(Self::Argon2(Box::new(hash)));
        }
        let cost = bcrypt_cost(text).ok_or("has a hash that is neither bcrypt (htpasswd -B) nor argon2")?;
        if cost > MOST_COST {
            Err("has a bcrypt of a cost over 14")
        } else {
            Ok(Self::Bcrypt(text.to_owned()))
        }
    }

    /// In constant time, both.
    fn is_of(&self, password: &[u8]) -> bool {
        static ARGON2: LazyLock<Argon2<'_>> = LazyLock::new(Argon2::default);
        match self {
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Argon2(hash) => ARGON2.verify_password(password, &**hash).is_ok(),
        }
    }
}

/// The cost of `$2y$10$` and 53 characters; `None` of anything else.
fn bcrypt_cost(hash: &str) -> Option<u32> {
    let rest = ["$2a$", "$2b$", "$2y$"].iter().find_map(|version| hash.strip_prefix(version))?;
    let (cost, rest) = rest.split_once('$')?;
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/');
    let whole = cost.len() == 2 && rest.len() == 53 && rest.bytes().all(is_base64);
    cost.parse().ok().filter(|cost| whole && *cost >= 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ada's by the C library's `crypt`, bob's of the tests of argon2's reference implementation.
    const FILE: &str = include_str!("users.htpasswd");

    #[test]
    fn passwords_are_judged_by_bcrypt_and_argon2() {
        let users = Users::parse(FILE).unwrap();
        for (name, password, wanted) in [
            ("ada", "secret", true),
            ("ada", "secreT", false),
            ("ada", "", false),
            ("bob", "password", true),
            ("bob", "secret", false),
            ("eve", "secret", false),
            ("", "", false),
        ] {
            assert_eq!(users.has(name, password.as_bytes()), wanted, "{name} {password}");
        }
        assert!(!Users::none().has("ada", b"secret"));
    }

    #[test]
    fn what_is_no_such_file_is_refused_and_named_by_its_line() {
        let good = "ada:$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";
        for (text, line, why) in [
            (String::new(), 1, "no user"),
            ("# nobody\n\n".to_owned(), 1, "no user"),
            (format!("{good}\nbob\n"), 2, "no `:`"),
            (format!("{good}\r\n\n{good}"), 3, "another line"),
            (":$2y$".to_owned(), 1, "printable"),
            (good.replace("ada", "a da"), 1, "printable"),
            (good.replace("ada", "ä"), 1, "printable"),
            ("ada:$apr1$2xXv8pQJ$KbLrgOgwyFGqJXlUpVvKq/".to_owned(), 1, "neither bcrypt"),
            ("ada:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=".to_owned(), 1, "neither bcrypt"),
            ("ada:secret".to_owned(), 1, "neither bcrypt"),
            (good[..good.len() - 1].to_owned(), 1, "neither bcrypt"),
            (good.replace("$04$", "$03$"), 1, "neither bcrypt"),
            (good.replace("$04$", "$xx$"), 1, "neither bcrypt"),
            (good.replace("$04$", "$15$"), 1, "cost over 14"),
            ("ada:$argon2id$".to_owned(), 1, "no argon2"),
            (
                "ada:$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
                    .to_owned(),
                1,
                "32 MiB",
            ),
        ] {
            let bad = Users::parse(&text).err().unwrap();
            assert_eq!(bad.line, line, "{text}: {bad}");
            assert!(bad.why.contains(why), "{text}: {bad}");
        }
    }
}
