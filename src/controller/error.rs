//! What can go wrong while reconciling, and what is done about it.

/// How an error is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The API server is away or busy: wait, longer each time.
    Transient,
    /// Somebody else wrote at the same moment: look again at once.
    Conflict,
    /// It will fail again until a person changes something: say so, and look again rarely.
    Permanent,
}

/// An error of a reconcile.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request failed. `what` names the object and the verb.
    #[error("{what}: {source}")]
    Api {
        /// The verb and the object, for instance `apply NetworkPolicy vision-train/cloison-ns-deny`.
        what: String,
        /// What the API server answered.
        #[source]
        source: kube::Error,
    },
    /// The reconcile took too long.
    #[error("{0} took longer than a minute")]
    Timeout(String),
}

impl Error {
    /// Names the request that failed.
    pub fn api(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Api { what, source }
    }

    /// What failed, and the API server's own words where it answered: one line for people.
    pub fn line(&self) -> String {
        match self {
            Self::Api {
                what,
                source: kube::Error::Api(status),
            } => format!("{what}: {}", status.message),
            Self::Api { .. } | Self::Timeout(_) => self.to_string(),
        }
    }

    /// How to answer it.
    pub fn class(&self) -> Class {
        match self {
            Self::Timeout(_) => Class::Transient,
            Self::Api { source, .. } => match source {
                kube::Error::Api(status) => match status.code {
                    409 => Class::Conflict,
                    // 404: the namespace or the definition went away; 403 with a terminating namespace likewise. A
                    // withdrawn right looks the same as a refusal by policy: both need a person.
                    400 | 401 | 403 | 404 | 405 | 422 => Class::Permanent,
                    _ => Class::Transient,
                },
                _ => Class::Transient,
            },
        }
    }

    /// A stable CamelCase word: reason of events and label of metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Timeout(_) => "Timeout",
            Self::Api {
                source: kube::Error::Api(status),
                ..
            } => match status.code {
                401 => "Unauthorized",
                403 => "Forbidden",
                404 => "NotFound",
                409 => "Conflict",
                400 | 422 => "Invalid",
                429 => "TooManyRequests",
                _ => "ApiServerError",
            },
            Self::Api { .. } => "ApiServerUnreachable",
        }
    }
}
