//! Where the schemas of the input are asked for.

use std::path::{Path, PathBuf};

use url::Url;

use super::{account, reader::Reader, secret::Secret, settings::read_ca_file, value};

/// A schema registry.
#[derive(Clone, Debug)]
pub struct Registry {
    pub url: Url,
    /// The user's name and password, if it wants to know who asks.
    pub user: Option<(String, Secret)>,
    /// Certificate authorities instead of the platform's.
    pub ca_file: Option<PathBuf>,
}

/// `None` where no address is written.
pub(super) fn read(reader: &mut Reader, credentials: Option<&Path>) -> Option<Registry> {
    const USERNAME: &str = "input.schema_registry.username";
    let [held, file] = ["password", "password_file"].map(|key| format!("input.schema_registry.{key}"));
    let url = reader.read("input.schema_registry.url", value::proxy);
    let username = reader.read(USERNAME, value::text);
    let ca_file = read_ca_file(reader, "input.schema_registry.ca_file");
    let password = account::read_secret(reader, &held, &file, credentials, !username.is_empty());
    if username.is_empty() && password.is_some() {
        reader.problem(USERNAME, "is empty, and there is a password; write whose it is");
    }
    if let Some(url) = url.as_ref().filter(|url| url.scheme() == "http" && password.is_some()) {
        let message = format!("the password crosses the network readable: {url} is no https address");
        reader.warning("input.schema_registry.url", message);
    }
    Some(Registry { url: url?, user: password.map(|password| (username, password)), ca_file })
}
