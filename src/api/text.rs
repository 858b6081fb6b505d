//! Strings with a shape. The shape is in the schema: the API server refuses what does not fit, and `cloison plan -f`
//! checks the same schema. Reading a value alone checks nothing.

use std::fmt;
use std::ops::Deref;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $min:literal, $max:literal $(, $pattern:literal)?) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        #[schemars(inline)]
        pub struct $name(
            #[schemars(length(min = $min, max = $max) $(, regex(pattern = $pattern))?)]
            pub String,
        );

        impl Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
    };
}

text!(
    /// A DNS label: lower-case letters, digits and dashes, at most 63 characters.
    DnsLabel, 1, 63, r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
);
text!(
    /// The name of a Kubernetes object: at most 253 characters.
    ObjectName, 1, 253
);
text!(
    /// A model, dataset or image digest: `sha256:` and 64 hexadecimal digits.
    Digest, 71, 71, r"^sha256:[a-f0-9]{64}$"
);
text!(
    /// A word in CamelCase, at most 63 characters.
    CamelCase, 1, 63, r"^[A-Z][A-Za-z0-9]*$"
);
text!(
    /// A person, team or account: at most 320 characters (the longest mail address).
    Contact, 3, 320
);
text!(
    /// A line of text of at most 512 characters.
    Line, 1, 512
);
text!(
    /// A label value of at most 63 characters; may be empty.
    LabelValue, 0, 63
);
text!(
    /// A version of Kubernetes without its patch, such as `1.36`.
    MinorVersion, 3, 16, r"^[0-9]+\.[0-9]+$"
);
text!(
    /// A control, such as `NET-04`.
    ControlName, 6, 6, r"^[A-Z]{3}-[0-9]{2}$"
);
text!(
    /// A control or one of its rules, such as `NET-04` or `WKL-01/host-path`.
    RuleName, 6, 48, r"^[A-Z]{3}-[0-9]{2}(/[a-z0-9-]+)?$"
);
text!(
    /// An age recipient: `age1` and lower-case letters or digits.
    AgeRecipient, 8, 255, r"^age1[a-z0-9]+$"
);
text!(
    /// A key's name in an EncryptionConfiguration: no colon, which ends it in the prefix of a stored value.
    KeyName, 1, 253, r"^[^:\s]+$"
);
text!(
    /// A group-resource such as `secrets` or `widgets.example.com`.
    ResourceText, 1, 253
);
text!(
    /// An armored age file of at most 2,048 characters.
    Armored, 64, 2048, r"^-----BEGIN AGE ENCRYPTED FILE-----\n"
);
text!(
    /// An `https` address. It is shown to people and never fetched.
    Url, 9, 2048, r"^https://"
);

/// An IPv4 or IPv6 network without host bits, such as `10.20.0.0/16`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(
    inline,
    extend("x-kubernetes-validations" = [{
        "rule": "isCIDR(self) && cidr(self) == cidr(self).masked()",
        "message": "NET-04/cidr must be a network without host bits, such as 10.20.0.0/16",
    }])
)]
pub struct Cidr(#[schemars(length(min = 3, max = 49))] pub String);

impl Cidr {
    /// The parsed network, or `None` where the text is not a network or has host bits: the rule the API server keeps.
    pub fn network(&self) -> Option<ipnet::IpNet> {
        let network: ipnet::IpNet = self.0.parse().ok()?;
        (network == network.trunc()).then_some(network)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
