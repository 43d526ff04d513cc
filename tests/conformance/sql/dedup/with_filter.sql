-- a filter below the deduplication
-- key: kind
SELECT kind, id, level
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY kind ORDER BY ts DESC) AS rn FROM events WHERE level IS NOT NULL)
WHERE rn = 1;
