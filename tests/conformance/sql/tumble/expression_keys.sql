-- grouped by an expression of the row
SELECT UPPER(device) AS d, MOD(n, 3) AS m, window_start, COUNT(*) AS c, SUM(n) AS s
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
GROUP BY UPPER(device), MOD(n, 3), window_start, window_end;
