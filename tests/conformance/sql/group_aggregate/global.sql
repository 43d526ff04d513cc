-- without GROUP BY: one row that changes
SELECT COUNT(*) AS c, SUM(n) AS s FROM readings_plain WHERE n < 1000;
