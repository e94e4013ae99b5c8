//! Tries one account: its secret, its sign-in, the token's role, and one call of the API.

use std::sync::Arc;

use tokio::time::timeout;

use super::{Finding, Mark, WITHIN};
use crate::{
    clock::Clock,
    config::AccountSettings,
    defender::{
        client::{Answered, call},
        token::{SignIn, TOKEN_REFUSED, Token, forbidden_words, lacks_role_words},
        transport::HttpTransport,
        wire::Api,
    },
    domain::{
        alert::AlertId,
        journal::{EntryId, Permit, WriterId},
        retry::{Failure, FailureKind, Throttle, Verdict},
    },
};

/// Has an alert's form and can't be one: its ticks are those of the year 1.
const NO_ALERT: &str = "da000000000000000000_0";

pub(super) async fn try_account(account: AccountSettings, transport: Arc<HttpTransport>) -> Vec<Finding> {
    let about = |what: &str| format!("account {}, {what}", account.name);
    let token = match sign_in(&account, &transport).await {
        Ok(token) => token,
        Err(words) => {
            let skipped = |what| Finding::new(Mark::Skipped, about(what), "needs a token");
            return vec![Finding::new(Mark::Failed, about("sign-in"), words), skipped("role"), skipped("API")];
        }
    };
    let host = account.authority_url.host_str().unwrap_or_default();
    vec![
        Finding::new(Mark::Ok, about("sign-in"), format!("{host} gives a token")),
        role(&token, about("role")),
        try_api(&account, &transport, &token, about("API")).await,
    ]
}

async fn sign_in(account: &AccountSettings, transport: &HttpTransport) -> Result<Token, String> {
    let clock = Clock::machine();
    let secret = account.client_secret.read().map_err(|error| error.to_string())?;
    let sign_in = SignIn::new(&account.authority_url, &account.tenant_id, &account.client_id, &account.scope);
    let token = timeout(WITHIN, sign_in.fetch(transport, &secret, clock.boot(), clock.wall())).await;
    let token =
        token.map_err(|_| format!("{} gives no answer; check authority_url and http.proxy", account.authority_url))?;
    token.map_err(|failure| {
        let remedy = if failure.transient { "; check authority_url and http.proxy, or try again later" } else { "" };
        format!("{failure}{remedy}")
    })
}

fn role(token: &Token, about: String) -> Finding {
    match &token.roles {
        None => Finding::new(Mark::Warning, about, "the token can't be read; only the call can tell"),
        Some(_) if token.lacks_role() => Finding::new(Mark::Failed, about, lacks_role_words()),
        Some(roles) => Finding::new(Mark::Ok, about, format!("the token names {}", named(roles))),
    }
}

/// The roles, as they may stand in a message.
fn named(roles: &[String]) -> String {
    let roles: Vec<_> = roles.iter().map(|role| role.escape_default().to_string()).collect();
    roles.join(", ")
}

async fn try_api(account: &AccountSettings, transport: &HttpTransport, token: &Token, about: String) -> Finding {
    let failed = |words: String| Finding::new(Mark::Failed, about.clone(), words);
    let Ok(id) = AlertId::parse(NO_ALERT) else { return failed("the id to ask for is none".to_owned()) };
    let clock = Clock::machine();
    let started = clock.boot();
    let permit = Permit { claim: EntryId { writer: WriterId::default(), number: 0 }, expires: started + WITHIN };
    let url = Api::new(&account.api_url).ips(&id);
    let Ok(call) = timeout(WITHIN, call(transport, &clock, permit, url, token)).await else {
        return failed(format!("{} gives no answer; check api_url and http.proxy", account.api_url));
    };
    let Some(Answered { verdict, .. }) = call.answer else {
        return failed("the process was stopped before the call; try again".to_owned());
    };
    let took = clock.boot().saturating_since(started).as_millis();
    match verdict {
        Verdict::Page { .. } | Verdict::NotFound => Finding::new(
            Mark::Ok,
            about,
            format!("{} allows the call ({took} ms)", account.api_url.host_str().unwrap_or_default()),
        ),
        Verdict::Throttled(throttle) => Finding::new(Mark::Warning, about, throttled(&throttle)),
        Verdict::Reauthenticate => failed(TOKEN_REFUSED.to_owned()),
        Verdict::Forbidden(said) => failed(forbidden_words(&said, token.lacks_role())),
        Verdict::Reject(said) => failed(format!("the API refuses the question ({said}); check api_url")),
        Verdict::Retry(failure) => failed(retried(&failure)),
    }
}

fn throttled(throttle: &Throttle) -> String {
    let pause = throttle.retry_after.map(humantime::format_duration);
    let pause = pause.map(|pause| format!(" and asks to wait {pause}")).unwrap_or_default();
    format!(
        "the API is throttling (429){pause}, so whether it allows the call is not known; someone else spends this app \
         registration's calls, such as a running alert-ips"
    )
}

fn retried(failure: &Failure) -> String {
    let remedy = match failure.kind {
        FailureKind::Connect => "check api_url, http.proxy, http.ca_file, and that this host may reach it",
        FailureKind::Timeout | FailureKind::Broken => "check api_url and http.proxy, or try again later",
        FailureKind::Status => "the service fails, which passes by itself: try again later",
        FailureKind::BadResponse => "this is not the API: check api_url and http.proxy",
    };
    format!("{}; {remedy}", failure.detail)
}
