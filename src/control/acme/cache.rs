//! Account and certificates in a folder. Names and form of the files are those of Go's `autocert.DirCache`, so that a
//! folder of the reference serves on, and the other way round: a host's file holds its key and its chain.

use crate::tls::Certificate;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// File of the account's key.
const ACCOUNT: &str = "acme_account+key";

/// The folder of key `cache_dir`.
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// None for an empty name. Makes the folder, for this user alone.
    pub fn open(folder: &str) -> io::Result<Option<Self>> {
        if folder.is_empty() {
            return Ok(None);
        }
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        Ok(Some(Self { folder: folder.into() }))
    }

    /// The account's key; `None` if there is none of use.
    pub fn account(&self) -> Option<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_file(self.folder.join(ACCOUNT)).ok()
    }

    pub fn put_account(&self, key: &[u8]) -> io::Result<()> {
        self.put(ACCOUNT, &pem("PRIVATE KEY", key))
    }

    /// The certificate of a host; `None` if there is none of use.
    pub fn certificate(&self, host: &str) -> Option<Certificate> {
        parse(&fs::read(self.folder.join(host)).ok()?)
    }

    pub fn put_certificate(&self, host: &str, text: &str) -> io::Result<()> {
        self.put(host, text)
    }

    /// Whole or not at all, for this user alone.
    fn put(&self, name: &str, text: &str) -> io::Result<()> {
        let (path, news) = (self.folder.join(name), self.folder.join(format!("{name}.new")));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&news)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&news, &path)?;
        fs::File::open::<&Path>(&self.folder)?.sync_all()
    }
}

/// A file of the cache.
pub fn parse(text: &[u8]) -> Option<Certificate> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    Certificate::new(chain.ok()?, &PrivateKeyDer::from_pem_slice(text).ok()?, Vec::new()).ok()
}

/// A block of PEM.
pub fn pem(what: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let mut lines = format!("-----BEGIN {what}-----\n");
    for line in text.as_bytes().chunks(64) {
        lines.extend(line.iter().map(|byte| char::from(*byte)));
        lines.push('\n');
    }
    lines + &format!("-----END {what}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn certificate_and_account_come_back() {
        let folder = std::env::temp_dir().join(format!("ringcast-acme-{}", std::process::id()));
        let cache = Cache::open(folder.to_str().expect("a name")).expect("opened").expect("a name");
        assert!(cache.account().is_none() && cache.certificate("a.example").is_none());
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["a.example".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("signed");
        let text = pem("PRIVATE KEY", &key.serialize_der()) + &pem("CERTIFICATE", certificate.der());
        cache.put_certificate("a.example", &text).expect("written");
        cache.put_account(&key.serialize_der()).expect("written");
        let found = cache.certificate("a.example").expect("found");
        assert_eq!(found.certified.cert, [certificate.der().clone()]);
        assert_eq!(cache.account().expect("found").secret_der(), key.serialize_der());
        let mode = fs::metadata(folder.join(ACCOUNT)).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(folder.join("a.example"), "broken").expect("written");
        assert!(cache.certificate("a.example").is_none());
        fs::remove_dir_all(folder).expect("removed");
    }
}
