//! What injection wrote into the containers and volumes of its own, field by field, as a hash.
//!
//! A live pod can't be compared with what we would write now: the API server fills in defaults, a `LimitRange` adds
//! limits, other webhooks rewrite images. What we wrote then can be, by its hash in the status annotation; a field
//! that somebody else has changed since is not ours to change back, which would start a fight (kuik and other
//! webhooks that rewrite the images of every container).

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest, Sha256};

/// The hashes of an item's fields, by field.
pub(crate) type Fields = BTreeMap<String, String>;

/// The hash of each field but the name, which is the item's key.
pub(crate) fn fields(item: &Value) -> Fields {
    let fields = item.as_object().into_iter().flatten().filter(|(field, _)| *field != "name");
    fields.map(|(field, value)| (field.clone(), hash(value))).collect()
}

/// 32 bits: it tells two versions of one field apart, and stands in every pod.
pub(crate) fn hash(value: &Value) -> String {
    let digest: [u8; 32] = Sha256::digest(value.to_string()).into();
    let (first, _) = digest.split_first_chunk().expect("4 of the 32 bytes");
    format!("{:08x}", u32::from_be_bytes(*first))
}
