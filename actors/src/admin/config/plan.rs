//! From a document and what is stored to the steps that make the one of the other.
//!
//! An object is found by its id, else by its name (a key: by the digest of its secret). The order of the phases
//! is one in which no step meets a reference that is not there yet or not any more.

use super::super::commit::Step;
use super::super::fields::FieldError;
use super::super::groups::DEFAULT as DEFAULT_GROUP;
use super::super::{AdminError, Context, Origin, groups, keys, mcp_servers, models, tenants};
use super::document::{Item, KeyItem, Wanted};
use super::{Plan, Planned, Stored};
use obleth_schema::changes::{Change, Edit};
use obleth_schema::groups::GroupRow;
use std::collections::{BTreeMap, HashMap, HashSet};

/// When a step is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    DeleteKeys,
    DeleteModels,
    DeleteMcpServers,
    McpServers,
    Groups,
    UpdateModels,
    CreateModels,
    Tenants,
    Keys,
    DeleteTenants,
    DeleteGroups,
}

/// The plan as it grows.
pub(super) struct Planner<'a> {
    context: &'a Context,
    origin: &'a Origin,
    stored: &'a Stored,
    prune: bool,
    steps: BTreeMap<Phase, Vec<(Step, String)>>,
    plan: Plan,
    /// The groups as they will be, by name.
    groups: HashMap<String, GroupRow>,
    /// Ids of the tenants as they will be, by name.
    tenants: HashMap<String, String>,
    doomed_tenants: HashSet<String>,
}

/// Objects of a section that are stored: where they are by id and by name, and which of them were met.
struct Shelf<'a, R> {
    by_id: HashMap<&'a str, &'a R>,
    by_name: HashMap<&'a str, &'a R>,
    met: HashSet<&'a str>,
}

impl<'a, R> Shelf<'a, R> {
    fn new(rows: &'a [R], id: impl Fn(&'a R) -> &'a str, name: impl Fn(&'a R) -> &'a str) -> Self {
        Self {
            by_id: rows.iter().map(|row| (id(row), row)).collect(),
            by_name: rows.iter().map(|row| (name(row), row)).collect(),
            met: HashSet::new(),
        }
    }

    /// The object that an item means, which no other item may mean.
    fn find(
        &mut self,
        id: Option<uuid::Uuid>,
        name: &str,
        id_of: impl Fn(&'a R) -> &'a str,
        place: &str,
    ) -> Result<Option<&'a R>, AdminError> {
        let by_id = id.and_then(|id| self.by_id.get(id.to_string().as_str()));
        let Some(row) = by_id.or_else(|| self.by_name.get(name)).copied() else {
            return Ok(None);
        };
        if !self.met.insert(id_of(row)) {
            return Err(FieldError::new(place, "means an object that another entry means already").into());
        }
        Ok(Some(row))
    }
}

/// Fields in which two documents of the API differ.
fn differing(before: Option<&str>, after: Option<&str>) -> Result<Vec<String>, AdminError> {
    type Fields = BTreeMap<String, serde_json::Value>;
    let read =
        |text: Option<&str>| -> Result<Fields, AdminError> { super::super::from_json(text.unwrap_or("{}")) };
    let (before, after) = (read(before)?, read(after)?);
    let own = |field: &&String| !["version", "updated_at"].contains(&field.as_str());
    let changed = after.iter().filter(|(field, value)| before.get(*field) != Some(*value));
    Ok(changed.map(|(field, _)| field).filter(own).cloned().collect())
}

fn placed(place: &str, error: AdminError) -> AdminError {
    match error {
        AdminError::Invalid(error) => {
            FieldError::new(format_args!("{place}.{}", error.field), error.message).into()
        }
        other => other,
    }
}

impl<'a> Planner<'a> {
    pub(super) fn new(context: &'a Context, origin: &'a Origin, stored: &'a Stored, prune: bool) -> Self {
        let plan = Plan {
            dry_run: false,
            creates: Vec::new(),
            updates: Vec::new(),
            deletes: Vec::new(),
            unchanged: 0,
            warnings: Vec::new(),
        };
        Self {
            context,
            origin,
            stored,
            prune,
            steps: BTreeMap::new(),
            plan,
            groups: stored.groups.iter().map(|row| (row.name.clone(), row.clone())).collect(),
            tenants: stored.tenants.iter().map(|row| (row.name.clone(), row.id.clone())).collect(),
            doomed_tenants: HashSet::new(),
        }
    }

    /// Plans all sections.
    pub(super) fn plan(&mut self, wanted: &Wanted) -> Result<(), AdminError> {
        wanted.groups.as_deref().map_or(Ok(()), |items| self.groups(items))?;
        wanted.models.as_deref().map_or(Ok(()), |items| self.models(items))?;
        wanted.tenants.as_deref().map_or(Ok(()), |items| self.tenants(items))?;
        wanted.mcp_servers.as_deref().map_or(Ok(()), |items| self.mcp_servers(items))?;
        match wanted.keys.as_deref() {
            Some(items) => self.keys(items),
            None => self.keys_of_doomed_tenants(),
        }
    }

    /// The steps in their order, the place of the document each comes from, and the plan.
    pub(super) fn finish(mut self, dry_run: bool) -> (Vec<Step>, Vec<String>, Plan) {
        self.plan.dry_run = dry_run;
        let (steps, places) = self.steps.into_values().flatten().unzip();
        (steps, places, self.plan)
    }

    /// Takes a step that makes or changes an object, unless it changes nothing but what is `hidden`.
    fn put(&mut self, phase: Phase, place: &str, step: Step, hidden: Vec<String>) -> Result<(), AdminError> {
        let mut planned = Planned { kind: step.kind, name: step.name.clone(), fields: Vec::new() };
        if step.before.is_none() {
            self.plan.creates.push(planned);
        } else {
            planned.fields = differing(step.before.as_deref(), step.after.as_deref())?;
            planned.fields.extend(hidden);
            if planned.fields.is_empty() {
                self.plan.unchanged += 1;
                return Ok(());
            }
            self.plan.updates.push(planned);
        }
        self.steps.entry(phase).or_default().push((step, place.to_owned()));
        Ok(())
    }

    fn delete(&mut self, phase: Phase, place: &str, step: Step) {
        self.plan.deletes.push(Planned { kind: step.kind, name: step.name.clone(), fields: Vec::new() });
        self.steps.entry(phase).or_default().push((step, place.to_owned()));
    }

    fn groups(&mut self, items: &[Item<groups::GroupSpec>]) -> Result<(), AdminError> {
        let (stored, prune) = (self.stored, self.prune);
        let mut shelf = Shelf::new(&stored.groups, |row| &row.id, |row| &row.name);
        for (at, item) in items.iter().enumerate() {
            let place = format!("groups[{at}]");
            let old = shelf.find(item.id, &item.spec.name, |row| &row.id, &place)?;
            let (step, _) =
                groups::step(item.spec.clone(), old, item.id).map_err(|error| placed(&place, error))?;
            // Unless another has that name by now.
            if let Some(old) =
                old.filter(|old| self.groups.get(&old.name).is_some_and(|row| row.id == old.id))
            {
                self.groups.remove(&old.name);
            }
            if let Change::Group(Edit::Insert(row) | Edit::Update(row, _)) = &step.change {
                self.groups.insert(row.name.clone(), row.clone());
            }
            self.put(Phase::Groups, &place, step, Vec::new())?;
        }
        let doomed = |row: &&GroupRow| row.name != DEFAULT_GROUP && !shelf.met.contains(row.id.as_str());
        for row in stored.groups.iter().filter(|_| prune).filter(doomed) {
            self.groups.remove(&row.name);
            self.delete(Phase::DeleteGroups, "groups", groups::removal(row)?);
        }
        Ok(())
    }

    fn models(&mut self, items: &[Item<models::ModelSpec>]) -> Result<(), AdminError> {
        let (stored, prune) = (self.stored, self.prune);
        let mut shelf = Shelf::new(&stored.models, |row| &row.id, |row| &row.model_name);
        for (at, item) in items.iter().enumerate() {
            let place = format!("models[{at}]");
            let old = shelf.find(item.id, &item.spec.model_name, |row| &row.id, &place)?;
            let mut spec = item.spec.clone();
            let kept = models::keep_secrets(&self.context.sealer, &mut spec, old)?;
            for header in kept.missing {
                self.plan.warnings.push(format!("{place}.upstream_headers.{header} has no value: left out"));
            }
            let (step, _) = models::step(self.context, self.origin, &spec, old, item.id)
                .map_err(|error| placed(&place, error))?;
            let phase = if old.is_some() { Phase::UpdateModels } else { Phase::CreateModels };
            self.put(phase, &place, step, kept.changed)?;
        }
        for row in stored.models.iter().filter(|row| prune && !shelf.met.contains(row.id.as_str())) {
            self.delete(Phase::DeleteModels, "models", models::removal(self.context, row)?);
        }
        Ok(())
    }

    fn mcp_servers(&mut self, items: &[Item<mcp_servers::McpServerSpec>]) -> Result<(), AdminError> {
        let (stored, prune) = (self.stored, self.prune);
        let mut shelf = Shelf::new(&stored.mcp_servers, |row| &row.id, |row| &row.name);
        for (at, item) in items.iter().enumerate() {
            let place = format!("mcp_servers[{at}]");
            let old = shelf.find(item.id, &item.spec.name, |row| &row.id, &place)?;
            let mut spec = item.spec.clone();
            let another = mcp_servers::keep_secret(&self.context.sealer, &mut spec, old)?;
            let (step, _) = mcp_servers::step(self.context, self.origin, &spec, old, item.id)
                .map_err(|error| placed(&place, error))?;
            let hidden = another.then(|| "auth_header".to_owned());
            self.put(Phase::McpServers, &place, step, hidden.into_iter().collect())?;
        }
        for row in stored.mcp_servers.iter().filter(|row| prune && !shelf.met.contains(row.id.as_str())) {
            self.delete(Phase::DeleteMcpServers, "mcp_servers", mcp_servers::removal(row)?);
        }
        Ok(())
    }

    fn tenants(&mut self, items: &[Item<tenants::TenantSpec>]) -> Result<(), AdminError> {
        let (stored, prune) = (self.stored, self.prune);
        let group_names = stored.group_names();
        let group_of = |id: &str| group_names.get(id).copied().unwrap_or(DEFAULT_GROUP);
        let mut shelf = Shelf::new(&stored.tenants, |row| &row.id, |row| &row.name);
        for (at, item) in items.iter().enumerate() {
            let place = format!("tenants[{at}]");
            let old = shelf.find(item.id, &item.spec.name, |row| &row.id, &place)?;
            let missing = || FieldError::new(format_args!("{place}.group"), "no group has this name");
            let group = self.groups.get(&item.spec.group).ok_or_else(missing)?;
            let before = old.map(|old| (old, group_of(&old.group_id)));
            let (step, _) = tenants::step(&item.spec, group, before, item.id)?;
            if let Some(old) = old.filter(|old| self.tenants.get(&old.name) == Some(&old.id)) {
                self.tenants.remove(&old.name);
            }
            self.tenants.insert(item.spec.name.clone(), step.id.clone());
            self.put(Phase::Tenants, &place, step, Vec::new())?;
        }
        for row in stored.tenants.iter().filter(|row| prune && !shelf.met.contains(row.id.as_str())) {
            if self.tenants.get(&row.name) == Some(&row.id) {
                self.tenants.remove(&row.name);
            }
            self.doomed_tenants.insert(row.id.clone());
            let step = tenants::removal(row, group_of(&row.group_id))?;
            self.delete(Phase::DeleteTenants, "tenants", step);
        }
        Ok(())
    }

    fn keys(&mut self, items: &[Item<KeyItem>]) -> Result<(), AdminError> {
        let (stored, prune) = (self.stored, self.prune);
        let mut shelf = Shelf::new(&stored.keys, |row| &row.id, |row| &row.key_hash);
        for (at, item) in items.iter().enumerate() {
            let place = format!("keys[{at}]");
            let hash = item.spec.hash.to_hex();
            let old = shelf.find(item.id, &hash, |row| &row.id, &place)?;
            let missing = || FieldError::new(format_args!("{place}.tenant"), "no tenant has this name");
            let tenant = self.tenants.get(&item.spec.tenant).ok_or_else(missing)?;
            let (row, hidden) = keys::imported(&item.spec, tenant, old, item.id)?;
            let action = if old.is_some() { "update" } else { "create" };
            let (step, _) = keys::step(action, row, old)?;
            self.put(Phase::Keys, &place, step, hidden)?;
        }
        for row in stored.keys.iter().filter(|row| prune && !shelf.met.contains(row.id.as_str())) {
            self.delete(Phase::DeleteKeys, "keys", keys::removal(row)?);
        }
        Ok(())
    }

    /// They would go with their tenants; the plan and the audit say so.
    fn keys_of_doomed_tenants(&mut self) -> Result<(), AdminError> {
        let stored = self.stored;
        let doomed: Vec<_> =
            stored.keys.iter().filter(|row| self.doomed_tenants.contains(&row.tenant_id)).collect();
        for row in doomed {
            self.delete(Phase::DeleteKeys, "keys", keys::removal(row)?);
        }
        Ok(())
    }
}
