//! All accounts: those of tenants, and those of keys under their tenants.

use super::Owner;
use super::account::Account;
use crate::ids::{KeyId, TenantId};
use foldhash::fast::FixedState;
use std::collections::HashMap;

#[derive(Clone, Debug, Default)]
pub(super) struct Accounts {
    tenants: HashMap<TenantId, Account, FixedState>,
    keys: HashMap<(TenantId, KeyId), Account, FixedState>,
}

impl Accounts {
    pub fn get(&self, owner: Owner) -> Option<&Account> {
        match owner {
            Owner::Tenant(tenant) => self.tenants.get(&tenant),
            Owner::Key(tenant, key) => self.keys.get(&(tenant, key)),
        }
    }

    pub fn get_mut(&mut self, owner: Owner) -> Option<&mut Account> {
        match owner {
            Owner::Tenant(tenant) => self.tenants.get_mut(&tenant),
            Owner::Key(tenant, key) => self.keys.get_mut(&(tenant, key)),
        }
    }

    /// The account of an owner, begun if it is not there.
    pub fn of(&mut self, owner: Owner) -> &mut Account {
        match owner {
            Owner::Tenant(tenant) => self.tenants.entry(tenant).or_default(),
            Owner::Key(tenant, key) => self.keys.entry((tenant, key)).or_default(),
        }
    }

    /// The accounts of a tenant and of its key, begun if they are not there. A blank one is soon forgotten.
    pub fn both(&mut self, tenant: TenantId, key: KeyId) -> [&mut Account; 2] {
        [self.tenants.entry(tenant).or_default(), self.keys.entry((tenant, key)).or_default()]
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Account> {
        self.tenants.values_mut().chain(self.keys.values_mut())
    }

    pub fn iter(&self) -> impl Iterator<Item = (Owner, &Account)> {
        let tenants = self.tenants.iter().map(|(tenant, account)| (Owner::Tenant(*tenant), account));
        tenants.chain(self.keys.iter().map(|((tenant, key), account)| (Owner::Key(*tenant, *key), account)))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Owner, &mut Account)> {
        let tenants = self.tenants.iter_mut().map(|(tenant, account)| (Owner::Tenant(*tenant), account));
        tenants
            .chain(self.keys.iter_mut().map(|((tenant, key), account)| (Owner::Key(*tenant, *key), account)))
    }

    pub fn retain(&mut self, mut keep: impl FnMut(Owner, &mut Account) -> bool) {
        self.tenants.retain(|tenant, account| keep(Owner::Tenant(*tenant), account));
        self.keys.retain(|(tenant, key), account| keep(Owner::Key(*tenant, *key), account));
    }

    pub fn len(&self) -> usize {
        self.tenants.len() + self.keys.len()
    }
}
