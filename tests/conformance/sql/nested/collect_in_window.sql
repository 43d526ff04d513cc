-- arrays of a window; with DISTINCT their order is not defined, so it is one value here
SELECT window_start, ARRAY_AGG(id) AS ids, ARRAY_AGG(DISTINCT MOD(id, 1)) AS zeros, COUNT(*) AS c
FROM TABLE(TUMBLE(TABLE bags, DESCRIPTOR(ts), INTERVAL '10' SECOND))
WHERE id <> 3
GROUP BY window_start, window_end;
