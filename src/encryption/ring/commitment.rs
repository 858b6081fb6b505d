//! What is said of a key in public.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::api::encryption::Provider;
use crate::api::text::Digest;
use crate::encryption::KeyMaterial;

/// Keeps this hash apart from every other that is made of a key.
const DOMAIN: &[u8] = b"cloison.dev/encryption-key-commitment/v1";

/// SHA-256 over number, name, cipher and material, each with its length before it. A key that opens with another
/// material, or under another name, is not the key that was minted. From 32 random bytes it shows nothing.
pub fn commitment(id: i64, name: &str, provider: Provider, material: &KeyMaterial) -> Digest {
    let provider = match provider {
        Provider::AESGCM => "aesgcm",
        Provider::Secretbox => "secretbox",
    };
    let mut hash = Sha256::new();
    for part in [
        DOMAIN,
        &id.to_be_bytes(),
        name.as_bytes(),
        provider.as_bytes(),
        material.bytes(),
    ] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let hex = hash.finalize().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    Digest(format!("sha256:{hex}"))
}
