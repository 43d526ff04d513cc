-- MIN and MAX when the row that held them goes
SELECT MIN(balance) AS lo, MAX(balance) AS hi, COUNT(DISTINCT city) AS cities, SUM(DISTINCT balance) AS s FROM accounts;
