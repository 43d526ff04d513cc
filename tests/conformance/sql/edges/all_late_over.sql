-- late rows and OVER: unbounded frames drop them
SELECT k, n, COUNT(*) OVER (PARTITION BY k ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS c FROM late_ones;
