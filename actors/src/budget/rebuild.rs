//! Usage of the running periods, from the ledger.

use super::Budget;
use crate::accounting::Accounting;
use crate::clock::unix_micros;
use obleth_core::ids::{KeyId, TenantId};
use obleth_core::token_budget::{Amount, Owner, Period};
use obleth_schema::ledger::{Payer, Spent, spent};
use obleth_schema::{Store, StoreError};
use std::collections::HashMap;
use std::time::Duration;

/// How long one attempt waits for rows that are still in the journal.
const PATIENCE: Duration = Duration::from_secs(5);

impl Budget {
    /// Sets what everybody in the registry has used so far, from the ledger. Before the first request: nothing may be
    /// reserved meanwhile. `false`: rows of the journal are not in the database yet, those of requests that a kill
    /// interrupted among them; try again.
    pub async fn rebuild(&self, store: &Store, accounting: &Accounting) -> Result<bool, StoreError> {
        if !accounting.flush(PATIENCE).await {
            return Ok(false);
        }
        if let Some(fleet) = &self.fleet {
            for (owner, used) in fleet.own_usage().await? {
                self.desk.restore(unix_micros(), owner, used);
            }
            return Ok(true);
        }
        let now = unix_micros();
        let mut sums: HashMap<Owner, [Amount; 3]> = HashMap::new();
        for (position, period) in Period::ALL.into_iter().enumerate() {
            let since = period.start(period.index(now));
            for payer in [Payer::Tenant, Payer::Key] {
                for row in spent(store, payer, since).await? {
                    let Some(owner) = self.owner(payer, &row) else { continue };
                    if let Some(sum) = sums.entry(owner).or_default().get_mut(position) {
                        *sum = amount(&row);
                    }
                }
            }
        }
        for (owner, used) in sums {
            self.desk.restore(now, owner, used);
        }
        Ok(true)
    }

    /// Whose sums a row has. `None`: one that is deleted.
    fn owner(&self, payer: Payer, row: &Spent) -> Option<Owner> {
        let registry = self.registry.load();
        let tenant: TenantId = row.tenant.parse().ok()?;
        registry.tenant(tenant)?;
        match payer {
            Payer::Tenant => Some(Owner::Tenant(tenant)),
            Payer::Key => {
                let key: KeyId = row.id.parse().ok()?;
                registry.key(key).map(|key| Owner::Key(tenant, key.id))
            }
        }
    }
}

fn amount(row: &Spent) -> Amount {
    Amount {
        tokens: u64::try_from(row.tokens).unwrap_or(0),
        pico: u128::try_from(row.cost_pico).unwrap_or(0),
    }
}
