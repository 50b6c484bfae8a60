DROP TABLE registry_log;
