DROP TABLE ledger;
DROP TABLE model_names;
DROP TABLE models;
DROP TABLE keys;
DROP TABLE tenants;
DROP TABLE tenant_groups;
