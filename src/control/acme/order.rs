//! One order: account, challenge, certificate.

use super::cache::{Cache, parse, pem};
use super::store::Store;
use crate::tls::Certificate;
use instant_acme::{
    Account, AuthorizationStatus, ChallengeHandle, ChallengeType, Identifier, Key, NewOrder, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;
use std::sync::Arc;

type Failure = Box<dyn std::error::Error>;

/// Loads the account, or makes one.
pub async fn account(store: &Store, cache: Option<&Cache>) -> Result<Account, Failure> {
    let options = &store.options;
    let builder = match &*options.directory_ca_file {
        "" => Account::builder()?,
        file => Account::builder_with_root(file)?,
    };
    let known = cache.and_then(Cache::account).and_then(|key| match key {
        PrivateKeyDer::Pkcs8(pkcs8) => Some((Key::from_pkcs8_der(pkcs8.clone_key()).ok()?, pkcs8)),
        _ => None,
    });
    let is_new = known.is_none();
    let (key, pkcs8) = known.map_or_else(Key::generate_pkcs8, Ok)?;
    if let (true, Some(cache)) = (is_new, cache) {
        cache.put_account(pkcs8.secret_pkcs8_der())?;
    }
    let (account, _) = builder.create_from_key((key, pkcs8.into()), options.directory_url.clone()).await?;
    if is_new && !options.email.is_empty() {
        account.update_contacts(&[&format!("mailto:{}", options.email)]).await?;
    }
    Ok(account)
}

/// Orders the certificate of a host. With the text of its file in the cache.
pub async fn order(store: &Store, account: &Account, host: &str) -> Result<(Certificate, String), Failure> {
    let ways = [Some(ChallengeType::TlsAlpn01), store.options.http_addr.is_some().then_some(ChallengeType::Http01)];
    let mut last = None;
    for way in ways.into_iter().flatten() {
        // A challenge that failed spoils its order, so each way has one of its own.
        let ordered = order_by(store, account, host, &way).await;
        store.withdraw_challenges();
        match ordered {
            Ok(ordered) => return Ok(ordered),
            Err(error) => last = Some(format!("{way:?}: {error}").into()),
        }
    }
    Err(last.unwrap_or_else(|| "no way to prove the name".into()))
}

async fn order_by(
    store: &Store,
    account: &Account,
    host: &str,
    way: &ChallengeType,
) -> Result<(Certificate, String), Failure> {
    let retries = RetryPolicy::new();
    let mut order = account.new_order(&NewOrder::new(&[Identifier::Dns(host.to_owned())])).await?;
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        match authorization.status {
            AuthorizationStatus::Pending => {}
            AuthorizationStatus::Valid => continue,
            status => return Err(format!("the authorization is {status:?}").into()),
        }
        let mut challenge = authorization.challenge(way.clone()).ok_or("the authority does not offer it")?;
        present(store, host, way, &challenge)?;
        challenge.set_ready().await?;
    }
    let status = order.poll_ready(&retries).await?;
    if status != OrderStatus::Ready {
        let reason = refusal(&mut order).await.unwrap_or_default();
        return Err(format!("the order is {status:?} {reason}").into());
    }
    let key = KeyPair::generate()?;
    let request = CertificateParams::new(vec![host.to_owned()])?.serialize_request(&key)?;
    order.finalize_csr(request.der()).await?;
    let chain = order.poll_certificate(&retries).await?;
    let text = pem("PRIVATE KEY", &key.serialize_der()) + &chain;
    let certificate = parse(text.as_bytes()).ok_or("the authority sent something that is no certificate")?;
    Ok((certificate, text))
}

/// What the authority said against a challenge.
async fn refusal(order: &mut instant_acme::Order) -> Option<String> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let authorization = authorization.ok()?;
        let problem = authorization.challenges.iter().find_map(|challenge| challenge.error.as_ref());
        if let Some(problem) = problem {
            return Some(format!("({problem})"));
        }
    }
    None
}

fn present(store: &Store, host: &str, way: &ChallengeType, challenge: &ChallengeHandle<'_>) -> Result<(), Failure> {
    let answer = challenge.key_authorization();
    if *way == ChallengeType::Http01 {
        store.present_http(&challenge.token, answer.as_str().to_owned());
        return Ok(());
    }
    let mut params = CertificateParams::new(vec![host.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(answer.digest().as_ref())];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let signing = ring::sign::any_supported_type(&PrivateKeyDer::try_from(key.serialize_der())?)?;
    store.present_tls(host, Arc::new(CertifiedKey::new(vec![certificate.der().clone()], signing)));
    Ok(())
}
