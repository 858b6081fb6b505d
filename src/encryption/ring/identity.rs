//! Identities: the secret halves of recipients. One is made on each control-plane node, others are kept offline.

use std::fmt;
use std::str::FromStr;

use age::secrecy::ExposeSecret;
use zeroize::Zeroizing;

use crate::api::text::AgeRecipient;

/// An age identity (X25519). It is wiped when dropped, and `Debug` shows its recipient alone.
#[derive(Clone)]
pub struct Identity {
    secret: age::x25519::Identity,
    recipient: AgeRecipient,
}

/// What is wrong with an identity file. It never repeats what the file says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadIdentity {
    /// Nothing but comments.
    #[error("holds no identity; it needs a line that begins with AGE-SECRET-KEY-1, as age-keygen writes it")]
    Empty,
    /// The file is itself encrypted.
    #[error("is encrypted; decrypt it first: age -d FILE > /dev/shm/identity")]
    Encrypted,
    /// A line that is something else.
    #[error("line {0} is no age identity; it needs AGE-SECRET-KEY-1…, as age-keygen writes it")]
    Line(usize),
}

impl Identity {
    /// From `AGE-SECRET-KEY-1…`.
    pub fn parse(text: &str) -> Option<Self> {
        let secret = age::x25519::Identity::from_str(text).ok()?;
        let recipient = AgeRecipient(secret.to_public().to_string());
        Some(Self { secret, recipient })
    }

    /// Its public half.
    pub fn recipient(&self) -> &AgeRecipient {
        &self.recipient
    }

    /// As an identity file holds it.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(self.secret.to_string().expose_secret().to_owned())
    }

    pub(super) fn secret(&self) -> &age::x25519::Identity {
        &self.secret
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Identity").field(&self.recipient.0).finish()
    }
}

/// The identities of an identity file, as `age-keygen` writes it: one a line, comments begin with `#`.
pub fn identities(text: &str) -> Result<Vec<Identity>, BadIdentity> {
    if text.starts_with("age-encryption.org/") || text.starts_with("-----BEGIN AGE ENCRYPTED FILE-----") {
        return Err(BadIdentity::Encrypted);
    }
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            found.push(Identity::parse(line).ok_or(BadIdentity::Line(index + 1))?);
        }
    }
    if found.is_empty() {
        return Err(BadIdentity::Empty);
    }
    Ok(found)
}
