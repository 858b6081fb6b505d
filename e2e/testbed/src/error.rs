use std::path::{Path, PathBuf};
use std::time::Duration;

/// What can go wrong while a test control plane starts or is used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program is neither given by the environment nor could it be built.
    #[error("{tool}: {reason}")]
    Tool {
        /// The file name of the program, such as `kube-apiserver-1.36`.
        tool: String,
        /// One line that says what to do.
        reason: String,
    },
    /// A process did not start, ended by itself, or did not become ready in time.
    #[error("{process} {reason}; the end of its log ({}):\n{tail}", log.display())]
    Process {
        /// Such as `api-server-0`.
        process: String,
        /// Such as `ended with exit status: 1`.
        reason: String,
        /// The whole log; it is kept when a start fails.
        log: PathBuf,
        /// The last 20 lines of the log, or those around the start of a crash dump.
        tail: String,
    },
    /// The kernel, or the container, gives a process no host name of its own.
    #[error(
        "{process} needs a host name of its own, or replicas could not be told apart, and gets none ({said}); run as root \
         with CAP_SYS_ADMIN, or allow user namespaces: sysctl user.max_user_namespaces, and the container's seccomp profile"
    )]
    HostName {
        /// Such as `api-server-0`.
        process: String,
        /// What `unshare` said.
        said: String,
    },
    /// A condition did not come true before its deadline (see [`crate::eventually`]).
    #[error("{what}: not within {waited:?}; last seen: {last}")]
    Deadline {
        /// The condition, in the caller's words.
        what: String,
        /// How long it was waited for.
        waited: Duration,
        /// The reason that the last attempt gave.
        last: String,
    },
    /// A key or certificate could not be made.
    #[error("certificates: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A file or folder of the test control plane could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// No free loopback address or port.
    #[error("loopback address: {0}")]
    Address(std::io::Error),
    /// A network namespace could not be made, or does not do what it is for.
    #[error("{place}: {reason}")]
    Network {
        /// A node, a pod, or what else is part of the network.
        place: String,
        /// What the kernel or a program said.
        reason: String,
    },
    /// An API server refused a request or could not be reached.
    #[error(transparent)]
    Client(Box<kube::Error>),
    /// etcd refused a request or answered something unexpected.
    #[error("etcd {path}: {reason}")]
    Etcd {
        /// The path of the JSON gateway, such as `/v3/kv/range`.
        path: String,
        /// What etcd or the client said.
        reason: String,
    },
    /// The caller asked for something that this control plane was not started with.
    #[error("{0}")]
    Usage(String),
}

impl From<kube::Error> for Error {
    fn from(source: kube::Error) -> Self {
        Self::Client(Box::new(source))
    }
}

impl Error {
    /// For `map_err` on file operations, which otherwise do not say which file.
    pub(crate) fn file(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::File { path, source }
    }
}
