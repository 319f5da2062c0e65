//! The HTTP listener of METRICS_LISTEN: `/metrics` for Prometheus, `/healthz` for load balancers, and the page for people.
//!
//! `listener` opens it; `connection` accepts and bounds, since everybody who reaches the address may ask; `site` has the routes, and
//! `page` is what browsers get.

mod connection;
mod listener;
mod page;
mod reply;
mod site;

use std::io;
use std::sync::Arc;
use std::thread;

use tokio::sync::oneshot;

pub use self::connection::MAX_CONNECTIONS;
pub use self::site::Site;
use crate::config::Endpoint;

/// Answers until the process ends, on a thread of its own: however much is asked here, mail has its own threads. Returns
/// what tells when a first attempt was made to open `listen`.
///
/// # Errors
/// The system has no thread to give.
pub fn start(site: Site, listen: Endpoint) -> io::Result<oneshot::Receiver<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (tried, first_attempt) = oneshot::channel();
    thread::Builder::new()
        .name("status".to_owned())
        .spawn(move || runtime.block_on(connection::serve(listen, Arc::new(site), tried)))?;
    Ok(first_attempt)
}
