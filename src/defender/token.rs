//! Sign-in at Entra ID: client credentials with a secret (v2 endpoint).
//!
//! The secret goes only to the configured authority. What the authority answers is never repeated but for its error code
//! and the number after `AADSTS`, which only picks the hint for the operator: the code that decides is `error`.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

use super::{
    transport::{HttpRequest, HttpResponse, Transport},
    wire::{quoted, retry_after},
};
use crate::domain::time::BootTime;

/// The role an app registration needs for `GET /api/alerts/{id}/ips`.
pub const REQUIRED_ROLE: &str = "Ip.Read.All";

/// What it means that the API answers 401 to a fresh token, and what to do.
pub const TOKEN_REFUSED: &str =
    "the API refuses a fresh token (401): check that the account's scope belongs to its api_url";

/// What a 403 of the API means, and what to do. `said` is what the API said, with a leading `: `, or empty.
pub fn forbidden_words(said: &str, lacks_role: bool) -> String {
    let remedy = if lacks_role {
        lacks_role_words()
    } else {
        format!(
            "check the app registration's permissions ({REQUIRED_ROLE}, with admin consent) and the tenant's licence"
        )
    };
    format!("the API forbids the call (403{said}); {remedy}")
}

/// What to do about a token that [lacks the role](Token::lacks_role).
pub fn lacks_role_words() -> String {
    format!(
        "the token has no role {REQUIRED_ROLE}: add that application permission to the app registration and grant \
         admin consent"
    )
}

/// A token is renewed this long before it expires, or after nine tenths of a short life.
const RENEW_BEFORE: Duration = Duration::from_mins(5);

/// Longest life of a token that is believed.
const LONGEST_LIFE: Duration = Duration::from_hours(24);

/// What a sign-in needs, all but the secret, which is read anew each time.
#[derive(Clone, Debug)]
pub struct SignIn {
    /// `{authority}/{tenant}/oauth2/v2.0/token`.
    endpoint: Url,
    client_id: String,
    scope: String,
}

/// An access token and how long it is good for.
#[derive(Clone, Debug)]
pub struct Token {
    pub bearer: SecretString,
    pub expires: BootTime,
    /// From here on another one should be fetched.
    pub renew_at: BootTime,
    /// The roles it names, where it can be read. Only for words to the operator: clients don't validate tokens.
    pub roles: Option<Vec<String>>,
}

impl Token {
    /// Whether the token can be read and lacks the role this daemon needs: consent was not given.
    pub fn lacks_role(&self) -> bool {
        self.roles.as_ref().is_some_and(|roles| roles.iter().all(|role| role != REQUIRED_ROLE))
    }
}

/// Why there is no token, in words for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{words}")]
pub struct SignInFailure {
    pub words: String,
    /// Whether it may pass by itself; else someone must change something first.
    pub transient: bool,
    /// What the authority's `Retry-After` asked for.
    pub retry_after: Option<Duration>,
}

impl SignInFailure {
    /// A failure that someone must mend.
    pub fn lasting(words: String) -> Self {
        Self { words, transient: false, retry_after: None }
    }
}

#[derive(Deserialize)]
struct TokenBody {
    access_token: SecretString,
    expires_in: Lifetime,
}

/// Seconds, as a number or (seen with some endpoints) as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Lifetime {
    Number(u64),
    Text(String),
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorBody {
    error: String,
    error_codes: Vec<u32>,
}

#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    roles: Vec<String>,
}

impl SignIn {
    pub fn new(authority: &Url, tenant_id: &str, client_id: &str, scope: &str) -> Self {
        let mut endpoint = authority.clone();
        endpoint.set_path(&format!("{}/{tenant_id}/oauth2/v2.0/token", authority.path().trim_end_matches('/')));
        Self { endpoint, client_id: client_id.to_owned(), scope: scope.to_owned() }
    }

    /// Fetches a token. `now` is read before the request, so that its life is not overrated.
    pub async fn fetch(
        &self,
        transport: &impl Transport,
        secret: &SecretString,
        now: BootTime,
        wall: Timestamp,
    ) -> Result<Token, SignInFailure> {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("client_id", &self.client_id)
            .append_pair("scope", &self.scope)
            .append_pair("client_secret", secret.expose_secret())
            .append_pair("grant_type", "client_credentials")
            .finish();
        let request = HttpRequest::PostForm { url: self.endpoint.clone(), form: form.into() };
        let response = transport.send(request).await.map_err(|failure| SignInFailure {
            words: format!("{} can't be asked for a token: {failure}", self.authority()),
            transient: true,
            retry_after: None,
        })?;
        if response.status == 200 { self.token(&response, now) } else { Err(self.refused(&response, wall)) }
    }

    fn authority(&self) -> &str {
        self.endpoint.host_str().unwrap_or("the sign-in service")
    }

    fn token(&self, response: &HttpResponse, now: BootTime) -> Result<Token, SignInFailure> {
        let unusable = |what: &str| SignInFailure {
            words: format!("{} answered with no usable token: {what}", self.authority()),
            transient: true,
            retry_after: None,
        };
        let body: TokenBody = serde_json::from_slice(&response.body)
            .map_err(|_| unusable("not the JSON that its documentation describes"))?;
        let seconds = match body.expires_in {
            Lifetime::Number(seconds) => Some(seconds),
            Lifetime::Text(text) => text.parse().ok(),
        };
        let life = seconds.map(Duration::from_secs).filter(|life| !life.is_zero() && *life <= LONGEST_LIFE);
        let life = life.ok_or_else(|| unusable("its lifetime is not between a second and a day"))?;
        let bearer = body.access_token;
        if bearer.expose_secret().is_empty() || !bearer.expose_secret().bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(unusable("it holds characters that no token has"));
        }
        let renew_before = RENEW_BEFORE.min(life / 10);
        let roles = roles(bearer.expose_secret());
        Ok(Token { expires: now + life, renew_at: now + life.saturating_sub(renew_before), roles, bearer })
    }

    fn refused(&self, response: &HttpResponse, wall: Timestamp) -> SignInFailure {
        let body: ErrorBody = serde_json::from_slice(&response.body).unwrap_or_default();
        let number = body.error_codes.first().copied();
        let transient = matches!(response.status, 408 | 429 | 500..=599) || body.error == "temporarily_unavailable";
        let code = match (body.error.as_str(), number) {
            ("", _) => String::new(),
            (error, None) => format!(" ({})", quoted(error)),
            (error, Some(number)) => format!(" ({}, AADSTS{number})", quoted(error)),
        };
        let hint = if transient { "this should pass by itself" } else { hint(number, &body.error) };
        SignInFailure {
            words: format!("{} refuses to sign in: HTTP {}{code}: {hint}", self.authority(), response.status),
            transient,
            retry_after: retry_after(response, wall),
        }
    }
}

/// What the operator should do. The numbers' meanings are Entra ID's published ones.
fn hint(number: Option<u32>, error: &str) -> &'static str {
    match (number, error) {
        (Some(7_000_215 | 70_002), _) => {
            "the client secret is wrong: put the secret's value (not its id) into the account's client_secret_file"
        }
        (Some(7_000_222), _) => "the client secret has expired: create a new one and put it into client_secret_file",
        (Some(700_016 | 70_001 | 700_011 | 7_000_112), _) => {
            "the app registration is not in this tenant or is disabled: check client_id, tenant_id and authority_url"
        }
        (Some(90_002), _) => "there is no such tenant at this authority: check tenant_id and authority_url",
        (Some(90_038 | 900_382 | 900_432), _) => "the tenant is in another cloud: use that cloud's authority_url",
        (Some(500_011 | 50_001 | 650_052 | 650_057), _) => {
            "the service behind the scope is not in this tenant: check scope, and that the tenant has Defender for Endpoint"
        }
        (Some(70_011 | 28_002 | 700_022 | 901_002), _) | (_, "invalid_scope") => "the scope is not valid: check scope",
        (Some(53_003 | 530_032 | 530_034 | 50_131), _) => {
            "Conditional Access blocks it: allow this host in the policy for workload identities"
        }
        (_, "invalid_client") => "the client's credential is not accepted: check client_id and the client secret",
        (_, "unauthorized_client") => "the app registration may not do this: check client_id and tenant_id",
        _ => "check tenant_id, client_id, scope and authority_url",
    }
}

/// The `roles` of a JWT's payload, unverified.
fn roles(token: &str) -> Option<Vec<String>> {
    let payload = token.split('.').nth(1)?;
    let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    Some(serde_json::from_slice::<Claims>(&payload).ok()?.roles)
}
