//! Who a client is and what a token opens to it. Source: behaviour §2.

mod claims;
mod object;
mod signature;
mod token;

pub(crate) use token::{ConnectionToken, SubscriptionToken, TokenError, verify_connection, verify_subscription};
