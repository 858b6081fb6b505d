//! The sweep: every Secret is patched with its own `uid` and `resourceVersion` and nothing else.
//!
//! Measured on 1.36.3: such a patch makes the API server read the value from etcd, and write it again only when it is not
//! stored under that server's own write key. So a `resourceVersion` that changed says *was old, is rewritten*, one that
//! did not says *was read and is current*. A whole pass in which nothing changed and nothing was in the way, while every
//! API server kept one configuration, proves each value without a look into etcd.
//!
//! Here is what answers mean and what a pass proves; [`cluster::sweep`](crate::cluster) sends the requests. The value is
//! never asked for: answers are metadata.

mod answer;
mod barrier;
mod listing;
mod outcome;
mod pace;
pub mod reads;
mod tally;

pub use answer::{Answer, Entry, NotMetadata, Page};
pub use barrier::{Barrier, NoBarrier, Shape};
pub use listing::{Listing, Stop};
pub use outcome::{Obstacle, Outcome, read, rewritten, settle};
pub use pace::Pace;
pub use reads::{Reads, reads, unread};
pub use tally::{Blocked, Pass, Tally, Unclean};
