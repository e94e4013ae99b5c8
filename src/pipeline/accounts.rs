//! Which account is asked about which alert.

use std::{collections::HashMap, sync::Arc};

use crate::{
    defender::account::AccountHandle,
    domain::{
        alert::Alert,
        outcome::{Reason, Rejection},
    },
};

/// The configured accounts, by tenant.
pub struct Accounts {
    /// Tenant ids in lower case. Never empty.
    accounts: Vec<(Arc<str>, AccountHandle)>,
    by_tenant: HashMap<Arc<str>, usize>,
}

impl Accounts {
    /// `accounts`: each with its tenant id; at least one, no tenant twice.
    pub fn new(accounts: impl IntoIterator<Item = (String, AccountHandle)>) -> Self {
        let accounts: Vec<(Arc<str>, AccountHandle)> =
            accounts.into_iter().map(|(tenant, account)| (tenant.to_lowercase().into(), account)).collect();
        let by_tenant = accounts.iter().enumerate().map(|(n, (tenant, _))| (tenant.clone(), n)).collect();
        Self { accounts, by_tenant }
    }

    /// Lets all of them notice at once whom they need not answer any more.
    pub fn let_go_of_withdrawn(&self) {
        self.accounts.iter().for_each(|(_, account)| account.let_go_of_withdrawn());
    }

    pub(super) fn len(&self) -> usize {
        self.accounts.len()
    }

    pub(super) fn of(&self, alert: &Alert) -> Result<&AccountHandle, Rejection> {
        self.index_of(alert).map(|n| &self.accounts[n].1)
    }

    /// With one account every alert is its; with several, an alert is its tenant's.
    pub(super) fn index_of(&self, alert: &Alert) -> Result<usize, Rejection> {
        if self.accounts.len() == 1 {
            return Ok(0);
        }
        let rejection = |detail: String| Rejection { reason: Reason::UnknownTenant, detail };
        let tenant = alert.tenant.as_ref().ok_or_else(|| {
            rejection(
                "the alert names no tenant, and several accounts are configured: which one to ask is unknown; \
                 input.custom.tenant says where a tenant is"
                    .into(),
            )
        })?;
        self.by_tenant.get(tenant).copied().ok_or_else(|| {
            let tenant = tenant.escape_default();
            rejection(format!(
                "no account is configured for the tenant {tenant}: add [accounts.NAME] with its tenant_id"
            ))
        })
    }

    pub(super) fn tenant_of<'a>(&'a self, alert: &'a Alert) -> &'a str {
        match self.accounts.as_slice() {
            [(only, _)] => only,
            _ => alert.tenant.as_deref().unwrap_or_default(),
        }
    }
}
