//! The HTTP client of the webhook and of Sentry: certificates are verified, and every wait has an end.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// The most time to connect, of the whole.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The most bytes of a response's head.
const MAX_HEAD: usize = 16 * 1024;
/// The largest file of certificates, in bytes.
const MAX_CERTIFICATES: u64 = 4 << 20;

/// A certificate authority that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error("{}: cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: has no certificate in PEM form", .0.display())]
    NoCertificate(PathBuf),
}

/// A client that trusts the system's certificate authorities and those in `ca_file`, follows no redirect, and gives up
/// a request after `timeout`. Every status is a response, none is an error.
///
/// # Errors
/// `ca_file` cannot be read, or has no certificate.
pub fn agent(ca_file: Option<&Path>, timeout: Duration) -> Result<Agent, CaError> {
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        log::debug!("the system's certificate authorities: {error}");
    }
    let mut roots: Vec<Certificate<'static>> =
        system.certs.iter().map(|der| Certificate::from_der(der.as_ref()).to_owned()).collect();
    if let Some(path) = ca_file {
        roots.extend(certificates(path)?);
    }
    let config = Agent::config_builder()
        .tls_config(TlsConfig::builder().root_certs(RootCerts::from(roots)).build())
        .timeout_global(Some(timeout))
        .timeout_connect(Some(timeout.min(CONNECT_TIMEOUT)))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .max_response_header_size(MAX_HEAD)
        .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
        .build();
    Ok(config.new_agent())
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, CaError> {
    let read = |path: &Path| {
        if fs::metadata(path)?.len() > MAX_CERTIFICATES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        fs::read(path)
    };
    let pem = read(path).map_err(|source| CaError::Read { path: path.to_owned(), source })?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(CaError::NoCertificate(path.to_owned()));
    }
    Ok(certificates)
}
