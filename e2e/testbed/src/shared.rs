use std::sync::Arc;
use std::time::Duration;

use crate::certificates::Authority;
use crate::endpoints::Endpoints;
use crate::{Etcd, WorkDir};

/// What the processes of one control plane have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) authority: Arc<Authority>,
    pub(crate) etcd: Etcd,
    pub(crate) endpoints: Endpoints,
    pub(crate) etcd_compaction_interval: Option<Duration>,
    pub(crate) start_deadline: Duration,
    // Last, so that it is dropped last: it removes the folder that the others write to.
    pub(crate) work_dir: Arc<WorkDir>,
}
