//! The settings of an account: one app registration in one tenant.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
};

use toml::Value;
use url::Url;

use super::{
    problem::quoted,
    reader::Reader,
    secret::Secret,
    value::{self, Least},
};
use crate::domain::limit::Limit;

/// One account.
#[derive(Clone, Debug)]
pub struct AccountSettings {
    /// Its label in metrics and logs.
    pub name: Arc<str>,
    /// Lower case.
    pub tenant_id: Arc<str>,
    /// Lower case.
    pub client_id: Arc<str>,
    pub client_secret: Secret,
    /// https, or http on loopback; no user, query or fragment.
    pub api_url: Url,
    /// As `api_url`.
    pub authority_url: Url,
    pub scope: String,
    /// As the service states them, not yet scaled by `share`; at least one.
    pub limits: Vec<Limit>,
    /// Above 0, at most 1.
    pub share: f64,
    /// As used: at most a quarter of the smallest scaled limit, at least 1.
    pub max_in_flight: NonZeroU32,
}

impl AccountSettings {
    /// What names the account in the journal: `tenant_id/client_id`, in lower case.
    pub fn journal_key(&self) -> String {
        format!("{}/{}", self.tenant_id, self.client_id)
    }
}

/// The accounts, by name; at least one.
pub(super) fn read_all(reader: &mut Reader, reserve: f64, credentials: Option<&Path>) -> Vec<AccountSettings> {
    let names = reader.names_in(super::keys::ACCOUNTS);
    if names.is_empty() {
        let message = "there is no account; add a section [accounts.NAME] with tenant_id, client_id and \
                       client_secret_file";
        reader.missing(super::keys::ACCOUNTS, message);
    }
    let accounts: Vec<_> = names.iter().map(|name| read(reader, name, reserve, credentials)).collect();
    refuse_ambiguous_tenants(reader, &accounts);
    accounts
}

fn read(reader: &mut Reader, name: &str, reserve: f64, credentials: Option<&Path>) -> AccountSettings {
    let path = |key: &str| format!("accounts.{name}.{key}");
    let is_label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(is_label) {
        let rule = "an account's name has 1 to 64 lower-case letters, digits, _ and -";
        reader.problem(&format!("accounts.{name}"), rule);
    }
    let limits = reader.read(&path("limits"), value::list(8, value::limit));
    let share = reader.read(&path("share"), value::fraction(Least::AboveZero, 1.0));
    let max_in_flight = reader.read(&path("max_in_flight"), value::whole(1..=1024));
    AccountSettings {
        name: name.into(),
        tenant_id: reader.read(&path("tenant_id"), tenant_id).into(),
        client_id: reader.read(&path("client_id"), identity).into(),
        client_secret: read_secret(reader, &path("client_secret"), &path("client_secret_file"), credentials, true)
            .unwrap_or_else(|| Secret::in_file("")),
        api_url: reader.read(&path("api_url"), value::service_url),
        authority_url: reader.read(&path("authority_url"), value::service_url),
        scope: reader.read(&path("scope"), value::name(512, |byte| byte.is_ascii_graphic(), "printable ASCII")),
        max_in_flight: fitted(reader, name, &limits, share, max_in_flight, reserve),
        limits,
        share,
    }
}

/// The calls in flight that the limits leave room for. Each unanswered call holds a slot whose end is not known yet,
/// and slots enough must be left for alerts that the reserve is not for.
fn fitted(
    reader: &mut Reader,
    account: &str,
    limits: &[Limit],
    share: f64,
    max_in_flight: u32,
    reserve: f64,
) -> NonZeroU32 {
    let [limits_path, share_path, in_flight_path] =
        ["limits", "share", "max_in_flight"].map(|key| format!("accounts.{account}.{key}"));
    if !reader.is_sound(&[&limits_path, &share_path, &in_flight_path, "priority.reserve"]) {
        return NonZeroU32::MIN;
    }
    let mut periods: Vec<_> = limits.iter().map(|limit| limit.per).collect();
    periods.sort_unstable();
    if periods.windows(2).any(|pair| pair[0] == pair[1]) {
        reader.problem(&limits_path, "names two limits for the same period; leave the larger one out");
    }
    let Some(smallest) = limits.iter().map(|limit| limit.scaled(share)).min() else {
        reader.problem(&limits_path, "is empty; name the service's limits, or every call may be one too many");
        return NonZeroU32::MIN;
    };
    let fitting = max_in_flight.min(smallest / 4).max(1);
    for limit in limits {
        let (calls, reserved) = (limit.scaled(share), limit.reserved(share, reserve));
        if calls.saturating_sub(fitting).saturating_sub(reserved) < 1 {
            reader.problem(
                &limits_path,
                format!(
                    "{limit} leaves no call for alerts below high severity: {calls} by share {share}, less {fitting} in \
                     flight and {reserved} in reserve; raise the limit or the share, or lower priority.reserve"
                ),
            );
        }
    }
    if fitting < max_in_flight {
        let message = format!(
            "{fitting} is used instead of {max_in_flight}: a quarter of the smallest limit, which is {smallest} calls"
        );
        reader.warning(&in_flight_path, message);
    }
    NonZeroU32::new(fitting).unwrap_or(NonZeroU32::MIN)
}

/// The secret that the environment gives as `held`, or that is in the file named by the key `file`. `None` where there is none
/// and none is needed; what can't be used is told, and comes as an empty place.
pub(super) fn read_secret(
    reader: &mut Reader,
    held: &str,
    file: &str,
    credentials: Option<&Path>,
    is_needed: bool,
) -> Option<Secret> {
    let path = reader.read(file, value::text);
    let unusable = || Some(Secret::in_file(""));
    if let Some(secret) = reader.text_if_written(held).map(str::to_owned) {
        if !matches!(reader.source(held), super::Source::Environment { .. }) {
            let variable = format!("ALERT_IPS_{}", held.to_uppercase().replace('.', "__"));
            let message = format!(
                "is accepted from the environment alone ({variable}); put the secret into a file that only the daemon \
                 can read, and that file's path into {}",
                last_name(file)
            );
            reader.problem(held, message);
            return unusable();
        }
        if !path.is_empty() {
            reader.warning(file, "is not used, because the environment gives the secret itself");
        }
        return Secret::held(secret).map_or_else(
            |error| {
                reader.problem(held, error);
                unusable()
            },
            Some,
        );
    }
    if path.is_empty() && !is_needed {
        return None;
    }
    if path.is_empty() {
        let message = "is missing; name the file that holds the secret, or, under systemd, the credential";
        reader.missing(file, message);
        return unusable();
    }
    let secret = match locate(&path, credentials, &reader.folder(file)) {
        Ok(path) => Secret::in_file(path),
        Err(message) => {
            reader.unusable_secret(file, message);
            return unusable();
        }
    };
    if let Err(error) = secret.read() {
        reader.unusable_secret(file, error);
    }
    Some(secret)
}

fn last_name(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// A bare name is a systemd credential; another relative path begins at `folder`.
fn locate(path: &str, credentials: Option<&Path>, folder: &Path) -> Result<PathBuf, String> {
    if path.contains('/') {
        return Ok(folder.join(path).components().collect());
    }
    credentials.map(|folder| folder.join(path)).ok_or_else(|| {
        format!(
            "{} is a bare name and so a systemd credential, but $CREDENTIALS_DIRECTORY is not set; run it under systemd \
             with LoadCredential={path}:FILE, or write the path of the file (./{path} for one beside this configuration)",
            quoted(path)
        )
    })
}

fn identity(value: &Value) -> Result<String, String> {
    let accepted = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    let id = value::name(253, accepted, "A-Z a-z 0-9 . -")(value)?.to_lowercase();
    if id == "." || id == ".." { Err(format!("{} is no id", quoted(&id))) } else { Ok(id) }
}

fn tenant_id(value: &Value) -> Result<String, String> {
    let id = identity(value)?;
    match id.as_str() {
        "common" | "organizations" | "consumers" => {
            Err(format!("{} is no tenant; a daemon signs in to one tenant: write its id", quoted(&id)))
        }
        _ => Ok(id),
    }
}

/// An alert must lead to one account.
fn refuse_ambiguous_tenants(reader: &mut Reader, accounts: &[AccountSettings]) {
    let mut seen: BTreeMap<&str, &AccountSettings> = BTreeMap::new();
    for account in accounts {
        let path = format!("accounts.{}.tenant_id", account.name);
        if !reader.is_sound(&[&path]) {
            continue;
        }
        if accounts.len() > 1 && !is_guid(&account.tenant_id) {
            let message = "must be the tenant's id (a GUID), not a domain: with several accounts an alert goes to the one \
                           of its tenant id";
            reader.problem(&path, message);
        }
        match seen.get(account.tenant_id.as_ref()) {
            None => drop(seen.insert(&account.tenant_id, account)),
            Some(other) if other.client_id == account.client_id => {
                let other = &other.name;
                reader.problem(&path, format!("is the same app registration as accounts.{other}; leave one out"));
            }
            Some(other) => {
                let other = &other.name;
                reader.problem(&path, format!("is the tenant of accounts.{other} too; one account for each tenant"));
            }
        }
    }
}

fn is_guid(text: &str) -> bool {
    let lengths = [8, 4, 4, 4, 12];
    let parts: Vec<&str> = text.split('-').collect();
    parts.len() == lengths.len()
        && parts
            .iter()
            .zip(lengths)
            .all(|(part, length)| part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
