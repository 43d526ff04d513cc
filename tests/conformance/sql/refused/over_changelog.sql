-- fails: OVER on rows that change
SELECT device, COUNT(*) OVER (ORDER BY ts ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS c FROM rates;
