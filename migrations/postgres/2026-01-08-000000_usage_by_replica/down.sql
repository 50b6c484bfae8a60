DROP TABLE usage_by_replica;
