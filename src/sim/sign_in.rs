//! The simulated sign-in: `POST /{tenant}/oauth2/v2.0/token` for client credentials, with the documented answers.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use axum::http::{Method, Request, Response, header};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    Now,
    answer::{Fault, Reply, RetryAfter, json_response, plain, stamp},
};
use crate::domain::time::BootTime;

/// The application permission of the endpoint.
const ROLE: &str = "Ip.Read.All";
const AUDIENCE: &str = "https://api.securitycenter.microsoft.com";

/// One app registration that may sign in.
#[derive(Clone, PartialEq, Eq)]
pub struct Client {
    pub tenant_id: String,
    pub client_id: String,
    pub client_secret: String,
}

/// One answer of the sign-in to a well-formed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignInAnswer {
    /// What the credentials deserve: a token, or the error for wrong ones.
    Genuine,
    /// A token without `roles`, as issued where nobody consented.
    WithoutRoles,
    /// AADSTS7000215, whatever the secret.
    WrongSecret,
    TooManyRequests(RetryAfter),
    /// A status such as 503, with `temporarily_unavailable`.
    Status(u16),
    Raw {
        code: u16,
        body: Bytes,
    },
    Broken(Fault),
}

/// Why a bearer token is refused by the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenProblem {
    /// Missing, unknown, revoked or expired: 401.
    Invalid,
    /// Valid, without the permission: 403.
    NoPermission,
}

/// Issues and knows the tokens.
pub(super) struct SignIn {
    /// Who may sign in; empty means anyone.
    pub(super) clients: Vec<Client>,
    pub(super) lifetime: Duration,
    /// Answers before the genuine ones, each used once.
    pub(super) script: VecDeque<SignInAnswer>,
    /// Requests so far, refused ones included.
    pub(super) calls: u64,
    issued: HashMap<Box<str>, Issued>,
    serial: u64,
}

struct Issued {
    expires: BootTime,
    has_role: bool,
}

impl SignIn {
    pub(super) fn new(clients: Vec<Client>, lifetime: Duration) -> Self {
        Self { clients, lifetime, script: VecDeque::new(), calls: 0, issued: HashMap::new(), serial: 0 }
    }

    /// The tenant of a token path, or `None` for other paths.
    pub(super) fn tenant(path: &str) -> Option<&str> {
        let tenant = path.strip_prefix('/')?.strip_suffix("/oauth2/v2.0/token")?;
        (!tenant.is_empty() && !tenant.contains('/')).then_some(tenant)
    }

    pub(super) fn revoke_all(&mut self) {
        self.issued.clear();
    }

    /// Judges the `Authorization` header of an API call.
    pub(super) fn check(&self, now: BootTime, request: &Request<Bytes>) -> Result<(), TokenProblem> {
        let token = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.strip_prefix("Bearer "))
            .and_then(|token| self.issued.get(token))
            .filter(|issued| now < issued.expires)
            .ok_or(TokenProblem::Invalid)?;
        if token.has_role { Ok(()) } else { Err(TokenProblem::NoPermission) }
    }

    /// Answers one request to the token endpoint of `tenant`.
    pub(super) fn handle(&mut self, now: Now, tenant: &str, request: &Request<Bytes>) -> Reply {
        self.calls += 1;
        let mut fault = None;
        let mut response = match self.script.pop_front().unwrap_or(SignInAnswer::Genuine) {
            SignInAnswer::Genuine => self.genuine(now, tenant, request),
            SignInAnswer::WithoutRoles => self.issue(now, tenant, &[]),
            SignInAnswer::WrongSecret => wrong_secret(now),
            SignInAnswer::TooManyRequests(retry_after) => {
                let mut response = problem(now, 429, "temporarily_unavailable", 90_055, "Too many requests.");
                retry_after.write(response.headers_mut(), now.wall);
                response
            }
            SignInAnswer::Status(code) => problem(now, code, "temporarily_unavailable", 90_033, "Try again later."),
            SignInAnswer::Raw { code, body } => plain(code, body),
            SignInAnswer::Broken(kind) => {
                fault = Some(kind);
                self.issue(now, tenant, &[ROLE])
            }
        };
        stamp(&mut response, now.wall);
        Reply { response, delay: Duration::ZERO, fault }
    }

    fn genuine(&mut self, now: Now, tenant: &str, request: &Request<Bytes>) -> Response<Bytes> {
        if request.method() != Method::POST {
            return problem(now, 400, "invalid_request", 900_561, "The endpoint only accepts POST requests.");
        }
        let form: HashMap<_, _> = url::form_urlencoded::parse(request.body()).collect();
        let field = |name| form.get(name).map_or("", |value| value.as_ref());
        if field("grant_type") != "client_credentials" {
            return problem(now, 400, "unsupported_grant_type", 70_003, "The grant type is not supported.");
        }
        if !field("scope").ends_with("/.default") {
            return problem(now, 400, "invalid_scope", 70_011, "The provided value for scope is not valid.");
        }
        if field("client_secret").is_empty() {
            return problem(now, 401, "invalid_client", 7_000_218, "The body must contain a client_secret.");
        }
        let mut of_tenant = self.clients.iter().filter(|client| client.tenant_id == tenant).peekable();
        if self.clients.is_empty() {
            return self.issue(now, tenant, &[ROLE]);
        }
        if of_tenant.peek().is_none() {
            return problem(now, 400, "invalid_request", 90_002, "The tenant was not found.");
        }
        match of_tenant.find(|client| client.client_id == field("client_id")) {
            None => problem(now, 400, "unauthorized_client", 700_016, "The application was not found in the tenant."),
            Some(client) if client.client_secret != field("client_secret") => wrong_secret(now),
            Some(_) => self.issue(now, tenant, &[ROLE]),
        }
    }

    fn issue(&mut self, now: Now, tenant: &str, roles: &[&str]) -> Response<Bytes> {
        self.serial += 1;
        self.issued.retain(|_, issued| now.boot < issued.expires);
        let (issued_at, lifetime) = (now.wall.as_second(), self.lifetime.as_secs());
        let mut claims = json!({
            "aud": AUDIENCE,
            "iat": issued_at,
            "exp": issued_at.saturating_add_unsigned(lifetime),
            "tid": tenant,
            "uti": self.serial,
        });
        if !roles.is_empty() {
            claims["roles"] = json!(roles);
        }
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = part(&json!({"alg": "RS256", "typ": "JWT"}));
        let token = format!("{head}.{}.{}", part(&claims), URL_SAFE_NO_PAD.encode("simulated"));
        let expires = now.boot + self.lifetime;
        self.issued.insert(token.as_str().into(), Issued { expires, has_role: !roles.is_empty() });
        json_response(200, &json!({"token_type": "Bearer", "expires_in": lifetime, "access_token": token}))
    }
}

fn wrong_secret(now: Now) -> Response<Bytes> {
    problem(now, 401, "invalid_client", 7_000_215, "Invalid client secret provided.")
}

fn problem(now: Now, code: u16, error: &str, number: u32, text: &str) -> Response<Bytes> {
    let body = json!({
        "error": error,
        "error_description": format!("AADSTS{number}: {text}"),
        "error_codes": [number],
        "timestamp": now.wall.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        "trace_id": "00000000-0000-4000-8000-000000000001",
        "correlation_id": "00000000-0000-4000-8000-000000000002",
    });
    json_response(code, &body)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rstest::rstest;

    use super::*;

    const FORM: &str =
        "client_id=app&client_secret=s%26cret&grant_type=client_credentials&scope=https%3A%2F%2Fapi%2F.default";

    fn now(seconds: u64) -> Now {
        Now { boot: BootTime::from_origin(Duration::from_secs(seconds)), wall: Timestamp::constant(1_795_000_000, 0) }
    }

    fn post(body: &str) -> Request<Bytes> {
        Request::post("/t/oauth2/v2.0/token").body(body.to_owned().into()).unwrap()
    }

    fn sign_in() -> SignIn {
        let client =
            |secret: &str| Client { tenant_id: "t".into(), client_id: "app".into(), client_secret: secret.into() };
        SignIn::new(vec![client("s&cret")], Duration::from_secs(3599))
    }

    fn token(reply: &Reply) -> Request<Bytes> {
        let body: Value = serde_json::from_slice(reply.response.body()).unwrap();
        let value = format!("Bearer {}", body["access_token"].as_str().unwrap());
        Request::get("/").header(header::AUTHORIZATION, value).body(Bytes::new()).unwrap()
    }

    #[test]
    fn a_token_is_good_until_it_expires_or_is_revoked() {
        let mut sign_in = sign_in();
        let request = token(&sign_in.handle(now(10), "t", &post(FORM)));
        assert_eq!(sign_in.check(now(10 + 3598).boot, &request), Ok(()));
        assert_eq!(sign_in.check(now(10 + 3599).boot, &request), Err(TokenProblem::Invalid));
        sign_in.revoke_all();
        assert_eq!(sign_in.check(now(11).boot, &request), Err(TokenProblem::Invalid));
    }

    #[test]
    fn the_token_tells_its_roles_and_expiry() {
        let mut sign_in = sign_in();
        let request = token(&sign_in.handle(now(0), "t", &post(FORM)));
        let text = request.headers()[header::AUTHORIZATION].to_str().unwrap();
        let claims = URL_SAFE_NO_PAD.decode(text.split('.').nth(1).unwrap()).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(
            (&claims["roles"], &claims["exp"], &claims["tid"]),
            (&json!([ROLE]), &json!(1_795_003_599), &json!("t"))
        );
    }

    #[test]
    fn a_token_without_roles_has_no_permission() {
        let mut sign_in = sign_in();
        sign_in.script.push_back(SignInAnswer::WithoutRoles);
        let request = token(&sign_in.handle(now(0), "t", &post(FORM)));
        assert_eq!(sign_in.check(now(1).boot, &request), Err(TokenProblem::NoPermission));
    }

    #[rstest]
    #[case::wrong_secret("t", &FORM.replace("s%26cret", "no"), 401, "invalid_client", 7_000_215)]
    #[case::no_secret("t", &FORM.replace("client_secret", "x"), 401, "invalid_client", 7_000_218)]
    #[case::wrong_client("t", &FORM.replace("=app", "=other"), 400, "unauthorized_client", 700_016)]
    #[case::wrong_tenant("u", FORM, 400, "invalid_request", 90_002)]
    #[case::wrong_grant("t", &FORM.replace("client_credentials", "password"), 400, "unsupported_grant_type", 70_003)]
    #[case::wrong_scope("t", &FORM.replace(".default", ""), 400, "invalid_scope", 70_011)]
    fn wrong_credentials_get_the_documented_error(
        #[case] tenant: &str,
        #[case] form: &str,
        #[case] code: u16,
        #[case] error: &str,
        #[case] number: u32,
    ) {
        let reply = sign_in().handle(now(0), tenant, &post(form));
        let body: Value = serde_json::from_slice(reply.response.body()).unwrap();
        assert_eq!(reply.response.status().as_u16(), code);
        assert_eq!((&body["error"], &body["error_codes"]), (&json!(error), &json!([number])));
    }
}
