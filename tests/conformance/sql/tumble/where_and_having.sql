-- WHERE before the window, HAVING after it, an expression over aggregates
SELECT site, window_start, COUNT(*) + 1 AS c1, MAX(v) - MIN(v) AS spread
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '30' SECOND))
WHERE v IS NOT NULL AND device <> 'c'
GROUP BY site, window_start, window_end
HAVING COUNT(*) > 1;
