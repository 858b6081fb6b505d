//! The agent on a control-plane node: it owns one directory with the EncryptionConfiguration of its own API server, holds
//! the keys, and tells what it sees there. It never edits how the API server is started.

pub mod directory;
pub mod etcd;
pub mod flags;
pub mod sealing;
