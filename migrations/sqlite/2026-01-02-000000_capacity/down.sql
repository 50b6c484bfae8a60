DROP TABLE capacity;
