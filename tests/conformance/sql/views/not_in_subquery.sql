-- NOT IN with a subquery without NULLs
-- order: final
SELECT n, device FROM readings_plain
WHERE device IS NOT NULL AND device NOT IN (SELECT device FROM events WHERE kind = 'alarm' AND device IS NOT NULL);
