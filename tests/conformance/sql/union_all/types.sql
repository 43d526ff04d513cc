-- columns take the wider type
SELECT id AS x, kind AS t FROM events UNION ALL SELECT CAST(level AS DECIMAL(5, 1)), device FROM events;
