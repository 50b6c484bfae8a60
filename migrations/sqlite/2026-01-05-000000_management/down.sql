DROP TABLE key_uses;
DROP TABLE audit;
DROP TABLE admin_tokens;
