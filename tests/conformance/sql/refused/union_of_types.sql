-- fails: column `id` of UNION ALL is BIGINT and TIMESTAMP(3)
SELECT id FROM events UNION ALL SELECT ts FROM events;
