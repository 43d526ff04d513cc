-- fails: UNION
SELECT id FROM events UNION ALL SELECT ts FROM events;
