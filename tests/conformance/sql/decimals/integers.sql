-- integer types: widths, division, overflow
SELECT id, CAST(id AS TINYINT) AS t, CAST(id * 100 AS SMALLINT) AS s, qty / 2 AS half, id / 4 AS q, qty * 1000000000 AS wraps, CAST(id AS BIGINT) * 3000000000 AS big, CAST(300 AS TINYINT) AS cut
FROM orders WHERE qty IS NOT NULL;
