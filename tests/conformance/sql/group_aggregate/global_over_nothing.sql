-- without GROUP BY and without rows: nothing, since no row came
SELECT COUNT(*) AS c, SUM(n) AS s FROM readings_plain WHERE n > 3000000000;
