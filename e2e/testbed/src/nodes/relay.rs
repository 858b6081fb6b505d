//! The API server as a node sees it: at the same address and port, so that its certificate and every kubeconfig hold, but
//! on the node's own loopback. Nothing of the host's network is touched.

use std::net::{SocketAddrV4, TcpListener};

use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::namespace::{NetworkNamespace, refused};
use crate::Error;

/// Carries bytes until it is dropped.
#[derive(Debug)]
pub(super) struct Relay {
    /// Dropping it ends the thread.
    _end: oneshot::Sender<()>,
}

impl Relay {
    pub(super) fn start(namespace: &NetworkNamespace, node: &str, server: SocketAddrV4) -> Result<Self, Error> {
        let failed = |error: std::io::Error| refused(node, format!("no way to the API server {server}: {error}"));
        let listener = namespace.inside(|| TcpListener::bind(server))?.map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let (end, ended) = oneshot::channel();
        std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = ended => {}
                    () = carry(listener, server) => {}
                }
            });
        });
        Ok(Self { _end: end })
    }
}

/// The listener is the node's; what it accepts is connected from here.
async fn carry(listener: TcpListener, server: SocketAddrV4) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    while let Ok((mut near, _)) = listener.accept().await {
        tokio::spawn(async move {
            if let Ok(mut far) = TcpStream::connect(server).await {
                let _ = copy_bidirectional(&mut near, &mut far).await;
            }
        });
    }
}
