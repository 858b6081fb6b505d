use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Error;

/// A loopback address of our own: Linux answers on all of 127.0.0.0/8 without any set-up.
///
/// Layout of the 24 bits: one set bit (so 127.128.0.0/9, far from what people use by hand), 17 bits of
/// the process id, 6 bits of a counter. Test processes that run at the same time so never share one.
pub(crate) fn next_address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    // 62, so that the broadcast address 127.255.255.255 cannot come out.
    let number = NEXT.fetch_add(1, Ordering::Relaxed) % 62;
    let process = std::process::id() & 0x1_ffff;
    Ipv4Addr::from_bits((127 << 24) | (1 << 23) | (process << 6) | number)
}

/// A port that is free on every one of `addresses`.
///
/// It is free when this returns; nobody else uses these addresses, so it still is when it is bound.
pub(crate) fn free_port(addresses: &[Ipv4Addr]) -> Result<u16, Error> {
    let mut last = std::io::Error::other("no address given");
    for _ in 0..20 {
        match one_free_port(addresses) {
            Ok(port) => return Ok(port),
            Err(error) => last = error,
        }
    }
    Err(Error::Address(last))
}

fn one_free_port(addresses: &[Ipv4Addr]) -> std::io::Result<u16> {
    let mut held = Vec::with_capacity(addresses.len());
    let mut port = 0;
    for address in addresses {
        let listener = TcpListener::bind((*address, port))?;
        port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(port)
}
