//! What a value in etcd says of itself: under which key it is, by its first bytes alone.

use std::fmt;

/// So many bytes are enough to tell the key: names of keys are shorter.
pub const HEAD: usize = 512;

/// Under what a value is stored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stored {
    /// As it is.
    Plain,
    /// Under a key of a configuration file: `k8s:enc:aesgcm:v1:k7:`.
    Key {
        /// `aesgcm`, `secretbox`, `aescbc`.
        provider: String,
        /// The key's name, which is part of the value.
        name: String,
    },
    /// By a KMS plugin, under the name of its provider.
    Kms(String),
    /// Encrypted, in a form we do not know.
    Unknown,
}

impl Stored {
    /// Reads the first bytes of a value; [`HEAD`] of them are enough.
    pub fn of(value: &[u8]) -> Self {
        let Some(rest) = value.strip_prefix(b"k8s:enc:") else {
            return Self::Plain;
        };
        let mut parts = rest.splitn(4, |byte| *byte == b':');
        let mut part = || {
            parts
                .next()
                .and_then(|part| std::str::from_utf8(part).ok())
                .map(str::to_owned)
        };
        let (Some(provider), Some(version), Some(name)) = (part(), part(), part()) else {
            return Self::Unknown;
        };
        match (provider.as_str(), version.as_str()) {
            ("kms", _) => Self::Kms(name),
            ("aesgcm" | "secretbox" | "aescbc", "v1") => Self::Key { provider, name },
            _ => Self::Unknown,
        }
    }
}

/// The key as reports name it: `identity` for plaintext, `unknown` for what means nothing to us.
impl fmt::Display for Stored {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Plain => "identity",
            Self::Key { name, .. } | Self::Kms(name) => name,
            Self::Unknown => "unknown",
        })
    }
}

/// Where the objects of a resource (`secrets`, `widgets.example.com`) are in etcd, below the prefix of the API server.
/// Custom resources are by their group, those that Kubernetes had first are not, and some have old names.
pub fn places(resource: &str) -> Vec<String> {
    let (name, group) = resource.split_once('.').unwrap_or((resource, ""));
    let old = match name {
        "nodes" => "minions",
        "services" => "services/specs",
        "endpoints" => "services/endpoints",
        "replicationcontrollers" => "controllers",
        "ingresses" => "ingress",
        name => name,
    };
    let mut places = vec![format!("{old}/")];
    if !group.is_empty() {
        places.push(format!("{group}/{name}/"));
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(provider: &str, name: &str) -> Stored {
        Stored::Key {
            provider: provider.to_owned(),
            name: name.to_owned(),
        }
    }

    #[test]
    fn the_key_is_told_from_the_first_bytes() {
        for (value, wanted) in [
            (&b"k8s:enc:aesgcm:v1:k7:\x00\xff:\x01"[..], key("aesgcm", "k7")),
            (b"k8s:enc:secretbox:v1:k12:x", key("secretbox", "k12")),
            (b"k8s:enc:kms:v2:cloud:\x0a\x10", Stored::Kms("cloud".to_owned())),
            (b"k8s\x00\x0a\x0c", Stored::Plain),
            (b"{\"kind\":\"Secret\"}", Stored::Plain),
            (b"k8s:enc:aesgcm:v9:k7:", Stored::Unknown),
            (b"k8s:enc:rot13:v1:k7:", Stored::Unknown),
            (b"k8s:enc:aesgcm", Stored::Unknown),
            (b"", Stored::Plain),
        ] {
            assert_eq!(Stored::of(value), wanted, "{}", value.escape_ascii());
        }
    }

    #[test]
    fn resources_are_where_the_api_server_puts_them() {
        assert_eq!(places("secrets"), ["secrets/"]);
        assert_eq!(places("deployments.apps"), ["deployments/", "apps/deployments/"]);
        assert_eq!(places("widgets.example.com"), ["widgets/", "example.com/widgets/"]);
        assert_eq!(places("services"), ["services/specs/"]);
    }
}
