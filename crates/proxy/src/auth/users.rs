//! Users and the hashes of their passwords, as `htpasswd` files have them.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::LazyLock;

use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params};

/// The most memory that one hash by argon2 may take, in KiB. More than the 19 MiB that OWASP asks for. Whether the proxy has as much is asked
/// when one is made.
const MOST_MEMORY: u32 = 32 * 1024;
/// The most passes over it.
const MOST_PASSES: u32 = 8;
/// The highest cost of bcrypt that is taken: about a second, and twice that for each further step.
const MOST_COST: u32 = 14;
/// The most kinds of hashes in one file: a wrong credential takes one of each.
const MOST_KINDS: usize = 4;

/// The users of one file. Without a `Debug` that shows hashes.
pub(super) struct Users {
    hashes: HashMap<String, Hash>,
    /// One of each kind.
    decoys: Vec<Hash>,
    /// The most that one of these hashes takes while it is made, in bytes.
    memory: usize,
}

#[derive(Clone)]
struct Hash {
    text: String,
    /// What precedes the salt: algorithm and cost. Hashes of one kind take the same time.
    kind: String,
    /// `None` where it is by bcrypt.
    argon2: Option<Box<PasswordHash>>,
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
        Self { hashes: HashMap::new(), decoys: Vec::new(), memory: 0 }
    }

    /// Reads `name:hash` of each line. Empty ones, and those that begin with `#`, say nothing.
    pub(super) fn parse(text: &str) -> Result<Self, BadLine> {
        let (mut hashes, mut decoys) = (HashMap::new(), Vec::<Hash>::new());
        let lines = text.lines().map(str::trim_end).enumerate();
        for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let bad = |why| BadLine { line: number + 1, why };
            let (name, hash) = line.split_once(':').ok_or(bad("has no `:` between a name and a hash"))?;
            // It stands in a header, and in a credential before a `:`.
            if name.is_empty() || !name.bytes().all(|byte| matches!(byte, b'!'..=b'~')) {
                return Err(bad("has a name that is not printable ASCII"));
            }
            let hash = Hash::parse(hash).map_err(bad)?;
            if decoys.iter().all(|decoy| decoy.kind != hash.kind) {
                decoys.push(hash.clone());
            }
            if decoys.len() > MOST_KINDS {
                return Err(bad("has a fifth kind of hash: at most 4 of different algorithms and costs"));
            }
            if hashes.insert(name.to_owned(), hash).is_some() {
                return Err(bad("has a name that another line has too"));
            }
        }
        if hashes.is_empty() {
            Err(BadLine { line: 1, why: "has no user, nor has another" })
        } else {
            let memory = decoys.iter().map(Hash::memory).max().unwrap_or(0);
            Ok(Self { hashes, decoys, memory })
        }
    }

    /// How much a question whether somebody has a password takes, in bytes. The same whoever is asked for.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    /// Whether somebody of this name has this password. Where not, that takes the time of one hash of each kind that is in the file, tens
    /// of milliseconds, whoever is asked for: else it would tell which names there are.
    pub(super) fn has(&self, name: &str, password: &[u8]) -> bool {
        let own = self.hashes.get(name);
        if own.is_some_and(|hash| hash.is_of(password)) {
            return true;
        }
        for decoy in self.decoys(own) {
            black_box(decoy.is_of(password));
        }
        false
    }

    /// What is compared beside somebody's own: a hash of each other kind.
    fn decoys(&self, own: Option<&Hash>) -> impl Iterator<Item = &Hash> {
        let own = own.map(|own| own.kind.clone());
        self.decoys.iter().filter(move |decoy| own.as_ref() != Some(&decoy.kind))
    }

    /// The hash of somebody's password, as the file has it.
    pub(super) fn hash(&self, name: &str) -> Option<&str> {
        self.hashes.get(name).map(|hash| hash.text.as_str())
    }
}

impl Hash {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let of = |salted: usize, argon2| {
            let kind = text.rsplitn(salted, '$').last().unwrap_or(text).to_owned();
            Self { text: text.to_owned(), kind, argon2 }
        };
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
            // `$argon2id$v=19$m=256,t=2,p=1`, salt and hash.
            return Ok(of(3, Some(Box::new(hash))));
        }
        let cost = bcrypt_cost(text).ok_or("has a hash that is neither bcrypt (htpasswd -B) nor argon2")?;
        if cost > MOST_COST {
            Err("has a bcrypt of a cost over 14")
        } else {
            // `$2y$10`, salt and hash in one.
            Ok(of(2, None))
        }
    }

    /// What it takes while it is made, in bytes. The 4 KiB of bcrypt are none.
    fn memory(&self) -> usize {
        let params = self.argon2.as_ref().and_then(|hash| Params::try_from(&**hash).ok());
        params.map_or(0, |params| params.m_cost() as usize * 1024)
    }

    /// In constant time, both.
    fn is_of(&self, password: &[u8]) -> bool {
        static ARGON2: LazyLock<Argon2<'_>> = LazyLock::new(Argon2::default);
        match &self.argon2 {
            None => bcrypt::verify(password, &self.text).unwrap_or(false),
            Some(hash) => ARGON2.verify_password(password, &**hash).is_ok(),
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

    /// A wrong password took as long as the user's own hash, and a name that nobody has as long as some user's: where these differ, time
    /// told names.
    #[test]
    fn a_wrong_credential_takes_the_same_hashes_whoever_is_asked_for() {
        let costly = "cid:$2y$05$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";
        let users = Users::parse(&format!("{FILE}{costly}")).unwrap();
        let kinds = ["$2y$04", "$2y$05", "$argon2id$v=19$m=256,t=2,p=1"];
        for name in ["ada", "bob", "cid", "nobody"] {
            let own = users.hashes.get(name);
            let mut compared: Vec<_> =
                own.into_iter().chain(users.decoys(own)).map(|hash| hash.kind.as_str()).collect();
            compared.sort_unstable();
            assert_eq!(compared, kinds, "{name}");
        }
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
            (
                (4..9)
                    .map(|cost| {
                        good.replace("ada", &cost.to_string()).replace("$04$", &format!("$0{cost}$")) + "\n"
                    })
                    .collect(),
                5,
                "a fifth kind",
            ),
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
